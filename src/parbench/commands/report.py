"""``parbench report``: write an interactive HTML report of a sweep, or a leaderboard of several."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.folders import chosen_words
from parbench.commands.options import default_results, writable
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import working

if TYPE_CHECKING:
    from parbench.figures.images import Images
    from parbench.figures.sweep import Sweep
    from parbench.figures.times import Times

_log = logging.getLogger(__name__)

_BOARD = Path("results/leaderboard.html")


def run(given: Given) -> None:
    """Write the report of the runs in some folders, or with ``leaderboard`` the leaderboard.

    Raises:
        ParbenchError: An option is wrong, the runs are not comparable, or the file cannot be written.
    """
    # Report a missing folder before the slow imports.
    folders = [path for path in chosen_words(given)[0] if path.is_dir()] or [default_results()]
    path = writable("out", given["out"] if "out" in given.named or not given["leaderboard"] else _BOARD)
    text = _board(given, folders) if given["leaderboard"] else _report(given, folders)
    path.write_text(text, encoding="utf-8")
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")


def _report(given: Given, folders: Sequence[Path]) -> str:
    from parbench.commands.figures import results_of
    from parbench.figures.sweep import COLUMNS, sweep_of
    from parbench.report.build import report_page

    with working("comparing runs"):
        results, files = results_of(given, COLUMNS)
        sweep = sweep_of(results, given["metric"])
        times = _times(sweep, files)
    with working("packing answers and images"):
        images = _images(sweep) if given["images"] != 0 else None
        return report_page(sweep, times, images, folders, most=given["images"], size=given["size"])


def _board(given: Given, folders: Sequence[Path]) -> str:
    from parbench.commands.figures import results_of
    from parbench.figures.sweep import COLUMNS
    from parbench.report.boards import sweeps_of
    from parbench.report.build import board_page

    with working("comparing runs"):
        results, _ = results_of(given, COLUMNS)
        return board_page(sweeps_of(results, given["metric"]), folders)


def _times(sweep: Sweep, files: Sequence[Path]) -> Times | None:
    """The times of the first batch size in the first given file; None without files."""
    from parbench.figures.times import read_times

    found = [times for path in files for times in read_times(path, sweep)]
    if len(found) > 1:
        _log.info(f"times in the report: batch {found[0].batch} on {found[0].device} only")
    return found[0] if found else None


def _images(sweep: Sweep) -> Images | None:
    from parbench.figures.images import Images

    try:
        return Images(sweep)
    except ParbenchError as error:
        _log.warning(f"skipped: images and kept tokens ({error})")
        return None
