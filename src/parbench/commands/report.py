"""``parbench report``: a sweep as one HTML file with table, scatter and a viewer of kept tokens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.commands.folders import chosen_words
from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import working

if TYPE_CHECKING:
    from parbench.figures.sweep import Sweep
    from parbench.figures.times import Times

_log = logging.getLogger(__name__)


def run(given: Given) -> None:
    """Write the report of the runs in some folders.

    Raises:
        ParbenchError: An option is wrong, the runs do not belong together, or the file cannot be written.
    """
    # A folder that is not there is said before anything is imported.
    chosen_words(given)
    path = writable("out", given["out"])
    from parbench.commands.figures import results_of
    from parbench.figures.sweep import COLUMNS, sweep_of
    from parbench.report.page import page

    with working("comparing runs"):
        results, files = results_of(given, COLUMNS)
        sweep = sweep_of(results, given["metric"])
        times = _times(sweep, files)
    with working("drawing kept tokens"):
        text = page(f"{sweep.comparison.model} on {sweep.comparison.dataset}", _data(sweep, times, _viewer(sweep, given["images"])))
    path.write_text(text, encoding="utf-8")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def _times(sweep: Sweep, files: Sequence[Path]) -> Times | None:
    """The first batch size of the first file that is named."""
    from parbench.figures.times import read_times

    found = [times for path in files for times in read_times(path, sweep)]
    if len(found) > 1:
        _log.info(f"times in the report: batch {found[0].batch} on {found[0].device} only")
    return found[0] if found else None


def _viewer(sweep: Sweep, most: int) -> dict[str, Any] | None:
    from parbench.figures.images import Images
    from parbench.report.viewer import viewer

    if not most:
        return None
    try:
        return viewer(sweep, Images(sweep), most)
    except ParbenchError as error:
        _log.warning(f"skipped: the viewer of kept tokens ({error})")
        return None


def _data(sweep: Sweep, times: Times | None, kept: dict[str, Any] | None) -> dict[str, Any]:
    from parbench.report.rows import columns_of, rows_of
    from parbench.report.svg_styles import looks
    from parbench.results.comparable import surroundings

    columns = columns_of(sweep, times)
    of, chance = sweep.comparison, sweep.chance
    return {
        "about": {
            "title": f"{of.model} on {of.dataset}",
            "said": f"{len(sweep.points)} runs over the same {of.questions:,} questions about {of.images:,} images.",
            "none": None if sweep.none is None else round(float(sweep.none["value"]), 4),
            "chance": None if chance is None else round(chance, 4),
            "notes": [*of.notes, *_notes(sweep)],
            "identity": surroundings(sweep.runs["identity"].iloc[0]),
        },
        "looks": looks(dict(zip(sweep.points["method"], sweep.points["look"], strict=True))),
        "columns": [vars(column) for column in columns],
        "rows": rows_of(sweep, columns, times),
        "kept": kept,
    }


def _notes(sweep: Sweep) -> list[str]:
    """What methods say of themselves."""
    noted = sweep.points[sweep.points["note"] != ""].drop_duplicates(["method", "note"])
    return [f"{row['method']}: {row['note']}" for _, row in noted.iterrows()]
