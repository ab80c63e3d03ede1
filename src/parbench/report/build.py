"""The two HTML pages: the report of a sweep, and the leaderboard of several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parbench import __version__
from parbench.figures.images import Images
from parbench.figures.sweep import Sweep
from parbench.figures.times import Times
from parbench.report.boards import boards, called
from parbench.report.kept import answers
from parbench.report.page import page
from parbench.report.rows import columns_of, rows_of
from parbench.report.skills import skills
from parbench.report.svg_styles import looks
from parbench.results.comparable import surroundings

_REPORT = ("table", "board", "skills", "scatter", "compare", "kept")


def report_page(
    sweep: Sweep, times: Times | None, images: Images | None, folders: Sequence[Path], *, most: int | None, size: float
) -> str:
    """The report of a sweep as HTML.

    Args:
        sweep: The runs.
        times: Times measured by parbench bench; None without.
        images: The images of the questions; None for a report without images.
        folders: The folders from which the runs were read.
        most: Maximum number of images; None for all.
        size: Maximum size of images and answers in megabytes.
    """
    of, chance = sweep.comparison, sweep.chance
    columns, title = columns_of(sweep, times), f"{of.model} on {of.dataset}"
    by_skill, packed = skills(sweep), answers(sweep, images, most, size)
    data = {
        "about": {
            "title": title,
            "said": f"{len(sweep.points)} runs over the same {of.questions:,} questions about {of.images:,} {of.visual}s.",
            "visuals": f"{of.visual}s",
            "none": None if sweep.none is None else round(float(sweep.none["value"]), 4),
            "chance": None if chance is None else round(chance, 4),
            "notes": [*of.notes, *_notes(sweep)],
            "identity": surroundings(sweep.runs["identity"].iloc[0]),
            **_written(),
        },
        "looks": _looks([sweep]),
        "columns": [vars(column) for column in columns],
        "rows": rows_of(sweep, columns, times),
        "boards": {"rule": _rule([sweep]), "all": boards([sweep], folders)},
        "skills": by_skill,
        "answers": packed,
    }
    absent = {"skills"} if by_skill is None else set()
    absent |= {"kept"} if packed["pictures"] is None else set()
    absent |= {"board"} if sweep.reduced.empty else set()
    absent |= {"compare"} if len(sweep.points) < 2 else set()
    return page(title, data, [name for name in _REPORT if name not in absent])


def board_page(sweeps: Sequence[Sweep], folders: Sequence[Path]) -> str:
    """The leaderboard of several sweeps as HTML.

    Args:
        sweeps: Sweeps, each of one model on one data set.
        folders: The folders from which the runs were read.
    """
    runs = sum(len(sweep.points) for sweep in sweeps)
    settings = "one setting" if len(sweeps) == 1 else f"{len(sweeps)} settings (model, data set, limit ...)"
    data = {
        "about": {
            "title": "Leaderboard",
            "said": f"{runs} runs in {settings}, from {', '.join(called(folders))}.",
            "notes": list(dict.fromkeys(note for sweep in sweeps for note in [*sweep.comparison.notes, *_notes(sweep)])),
            "identity": surroundings(sweeps[0].runs["identity"].iloc[0]) if len(sweeps) == 1 else {},
            **_written(),
        },
        "looks": _looks(sweeps),
        "boards": {"rule": _rule(sweeps), "all": boards(sweeps, folders)},
    }
    return page("Leaderboard", data, ["board"])


def _rule(sweeps: Sequence[Sweep]) -> str:
    """How rows are ranked, in two sentences."""
    resampled = " or ".join(dict.fromkeys(f"{sweep.comparison.visual}s" for sweep in sweeps))
    return (
        "Rank: one more than the number of rows that are significantly better, by a paired t-test with Holm's correction over all "
        f"pairs of the budget (5 %, {resampled} resampled). Rows that do not differ significantly from the best share its rank."
    )


def _looks(sweeps: Sequence[Sweep]) -> dict[str, dict[str, Any]]:
    points = [sweep.points for sweep in sweeps]
    return looks({method: own for one in points for method, own in zip(one["method"], one["look"], strict=True)})


def _written(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Version and date (UTC). As usual for reproducible builds, ``SOURCE_DATE_EPOCH`` replaces the clock if it is set."""
    given = environment.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(given), UTC) if given.isdecimal() else datetime.now(UTC)
    return {"version": __version__, "date": f"{now:%Y-%m-%d}"}


def _notes(sweep: Sweep) -> list[str]:
    """The notes of methods."""
    noted = sweep.points[sweep.points["note"] != ""].drop_duplicates(["method", "note"])
    return [f"{row['method']}: {row['note']}" for _, row in noted.iterrows()]
