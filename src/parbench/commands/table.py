"""``parbench table``: compare runs, as text for people or as data for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.choosing import chosen
from parbench.commands.folders import chosen_words
from parbench.commands.options import default_results
from parbench.commands.parsing import Given
from parbench.commands.table_output import write_data, write_views
from parbench.errors import ParbenchError
from parbench.progress import working
from parbench.results.loading import find_runs

if TYPE_CHECKING:
    from parbench.tables.comparing import Comparison

_ENDINGS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "parquet": ".parquet", "terminal": ".txt"}


def run(given: Given) -> None:
    """Print or write the table of the runs in some folders.

    Raises:
        ParbenchError: An option is wrong, or the runs are not comparable.
    """
    paths, where = chosen_words(given)
    form, out = _format(given), given["out"]
    if given["published"]:
        from parbench.commands.table_published import published

        if given["metric"]:
            where["metric"] = given["metric"]
        published(paths, where, form, out)
        return
    # Report a folder without runs before the slow import of pandas.
    find_runs(paths or [default_results()])
    with working("comparing runs"):
        from parbench.tables.comparing import COLUMNS, compare

        results = chosen(paths, where, COLUMNS)
        comparison = compare(results, given["metric"], quantized=True, strict=given["strict"])
    if form in ("csv", "parquet"):
        from parbench.tables.data import data

        write_data(data(comparison), form, out)
    else:
        write_text(comparison, form, given["views"], out)


def _format(given: Given) -> str:
    """The given format, or the one of the file's suffix.

    Raises:
        ParbenchError: They contradict each other.
    """
    form: str | None = given["format"]
    out: Path | None = given["out"]
    if out is None:
        if form == "parquet":
            raise ParbenchError("format=parquet is for a file: add out=table.parquet")
        return form or "terminal"
    by_ending = next(name for name, ending in _ENDINGS.items() if ending == out.suffix.lower())
    if form and out.suffix.lower() == ".txt" and form not in ("csv", "parquet"):
        return form
    if form and form != by_ending:
        raise ParbenchError(f"out={out} is a file of {by_ending}, but format={form} is given: name it {out.stem}{_ENDINGS[form]}")
    return by_ending


def write_text(comparison: Comparison, form: str, wanted: Sequence[str] | None, out: Path | None) -> None:
    """Print or write the views of a comparison.

    Args:
        comparison: The comparison.
        form: ``terminal``, ``markdown`` or ``latex``.
        wanted: Names of views; None for the default ones.
        out: The file; None for the terminal.

    Raises:
        ParbenchError: The file cannot be written.
    """
    from parbench.tables.views import USUAL, views

    write_views(views(comparison, wanted or USUAL), form, out)
