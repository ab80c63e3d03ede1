"""``parbench export``: export finished runs as Every Eval Ever records, or as the ``model-index`` of a model card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.choosing import chosen
from parbench.commands.folders import chosen_words
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import working

if TYPE_CHECKING:
    from parbench.results.loading import Results


def run(given: Given) -> None:
    """Write the records of the runs in some folders and print the paths of the written files.

    Raises:
        ParbenchError: An option is wrong, a model has no id, no run has scores, or the folder cannot be written.
    """
    paths, where = chosen_words(given)
    out = given["out"]
    try:
        # Created before the runs are read, so that an error comes early.
        out.mkdir(parents=True, exist_ok=True)
        with working("reading runs"):
            results = chosen(paths, where, None)
            wanted = results.samples["run_id"].isin(results.runs["run_id"])
            results = replace(results, samples=results.samples[wanted])
        with working("exporting runs"):
            written = _write(given, results, out)
    except OSError as error:
        raise ParbenchError(f"out={out} cannot be written ({error.strerror}): choose another path") from error
    for path in written:
        print(path)


def _write(given: Given, results: Results, out: Path) -> list[Path]:
    from parbench.export.every_eval_ever import Publisher, write_every_eval_ever
    from parbench.export.model_index import write_model_index

    if given["format"] == "model-index":
        return write_model_index(results, out, given["model_id"])
    publisher = Publisher(given["organization"], given["relationship"], given["model_id"])
    return write_every_eval_ever(results, out, publisher)
