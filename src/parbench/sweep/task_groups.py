"""Groups and tags of lmms-eval tasks in commands: one run per task, and a table over all."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from parbench.config import names

if TYPE_CHECKING:
    from parbench.sweep.runner import OpenGroup

_log = logging.getLogger(__name__)


def with_tasks(words: Sequence[str]) -> list[str]:
    """Command-line words with a group or tag replaced by its tasks.

    ``dataset=refcoco`` becomes ``dataset=refcoco_bbox_val,...``. Tasks that parbench cannot run are skipped with a message.

    Raises:
        ParbenchError: parbench can run none of the group's tasks.
    """
    return [f"dataset={','.join(_tasks(word.removeprefix('dataset=')))}" if word.startswith("dataset=") else word for word in words]


def _tasks(value: str) -> list[str]:
    """The data sets that a value of ``dataset`` stands for; anything but a list of names is returned unchanged."""
    own = names("dataset")
    parts = value.split(",")
    if all(part in own for part in parts) or any(sign in value for sign in "()[]{}'\"*"):
        return parts
    from parbench.lmms_tasks.by_name import parts_of

    tasks: list[str] = []
    for part in parts:
        if (found := parts_of(part, own)) is None:
            tasks.append(part)
            continue
        for said in found[1]:
            _log.warning(f"left out of {part}: {said}")
        tasks += found[0]
    return list(dict.fromkeys(tasks))


def show_together(opened: Sequence[OpenGroup]) -> None:
    """Print accuracies on several data sets, one row each, and over all their questions.

    Prints nothing if the groups differ in more than the data set.
    """
    sets = [
        (
            one.session.dataset.name,
            {job.name.removesuffix(f", {one.group.title}"): job.folder for job in one.jobs if job.folder},
        )
        for one in opened
    ]
    if len(sets) < 2 or len(dict(sets)) < len(sets) or len({_surroundings(one) for one in opened}) > 1:
        return
    found = [(title, scored) for title, runs in sets if (scored := _scored(runs))]
    if not found:
        return
    called = list(dict.fromkeys(name for _, runs in found for name in runs))
    rows = [
        (title, str(_questions(runs)), *(_percent([runs[name]] if name in runs else []) for name in called))
        for title, runs in found
    ]
    # No overall figure for a method that is missing on some data set.
    whole = [[runs[name] for _, runs in found] if all(name in runs for _, runs in found) else [] for name in called]
    rows.append(("all questions", str(sum(_questions(runs) for _, runs in found)), *map(_percent, whole)))
    _print(called, rows)


def _print(called: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from parbench.tables.rendering import print_views
    from parbench.tables.views import Cell, View

    cells = tuple(tuple(Cell(text) for text in row) for row in rows)
    note = "accuracy %, a row a data set; all questions: each question counts the same, whatever data set it is from"
    print()
    print_views([View("all data sets", ("data set", "n", *called), cells, (len(cells) - 2,), (note,))])


def _surroundings(opened: OpenGroup) -> str:
    """A key of everything in a group's configuration except the data set."""
    whole: Any = OmegaConf.to_container(opened.group.config, resolve=True)
    return str({key: value for key, value in whole.items() if key != "dataset"})


def _scored(runs: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """The metrics of the runs that have an accuracy, by label."""
    found = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in runs.items()}
    return {name: one for name, one in found.items() if one["accuracy"] is not None}


def _questions(runs: Mapping[str, dict]) -> int:
    return max((one["n"] for one in runs.values()), default=0)


def _percent(runs: Sequence[dict]) -> str:
    """Accuracy in per cent over all questions of some runs."""
    if not runs:
        return "-"
    return f"{100 * sum(one['accuracy'] * one['n'] for one in runs) / sum(one['n'] for one in runs):.1f}"
