"""``parbench export``: finished runs as Every Eval Ever records, or as a model card's ``model-index``."""

from __future__ import annotations

from dataclasses import replace

from parbench.commands.choosing import chosen
from parbench.commands.folders import chosen_words
from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import working


def run(given: Given) -> None:
    """Write the runs in some folders and print where.

    Raises:
        ParbenchError: An option is wrong, a model has no id, no run has scores, or the folder cannot be written.
    """
    paths, where = chosen_words(given)
    out = given["out"]
    writable("out", out / "README")
    with working("reading runs"):
        from parbench.export.every_eval_ever import Publisher, write_every_eval_ever
        from parbench.export.model_index import write_model_index

        results = chosen(paths, where, None)
        wanted = set(results.runs["run_id"])
        results = replace(results, samples=results.samples[results.samples["run_id"].isin(wanted)])
    with working("exporting runs"):
        try:
            if given["format"] == "model-index":
                written = write_model_index(results, out, given["model_id"])
            else:
                written = write_every_eval_ever(
                    results, out, Publisher(given["organization"], given["relationship"], given["model_id"])
                )
        except OSError as error:
            raise ParbenchError(f"out={out} cannot be written ({error.strerror}): choose another place") from error
    for path in written:
        print(path)
