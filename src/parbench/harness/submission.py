"""Splits whose answers only an evaluation server has: scoring is refused, and a submission file is written instead."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError

# Columns in which benchmarks store answers.
ANSWERS = ("answer", "answers")


def for_server(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A ``conf/dataset`` mapping with the lmms-eval task that writes the submission file instead of scoring.

    Raises:
        ParbenchError: The data set has no server.
    """
    server = settings.get("server")
    if not server:
        raise ParbenchError(f"data set {settings['name']} has no server that takes a file: leave out submission=true")
    return {**settings, "task": server["task"], "yaml": server["yaml"], "submission": True}


def refuse_split(settings: Mapping[str, Any]) -> None:
    """Refuse to score a split that is known to have no answers, without loading anything.

    Raises:
        ParbenchError: The split has no answers.
    """
    if settings["split"] in (settings.get("server") or {}).get("splits", ()) and not settings.get("submission"):
        raise _unscored(settings)


def refuse_unanswered(settings: Mapping[str, Any], rows: Any) -> None:
    """Refuse to score rows that have no answer.

    Args:
        settings: The ``conf/dataset`` mapping.
        rows: A ``datasets.Dataset``.

    Raises:
        ParbenchError: No row has an answer, or a row that should have one lacks it.
    """
    if settings.get("submission"):
        return
    for column in (name for name in ANSWERS if name in rows.column_names):
        empty = [number for number, value in enumerate(rows[column][:]) if is_empty(value)]
        if len(empty) == len(rows):
            raise _unscored(settings)
        if empty and column in settings["columns"]:
            raise ParbenchError(
                f"{len(empty)} of {len(rows)} rows of data set {settings['name']} have nothing in {column}, the first of them row "
                f"{empty[0]}: give them an answer or leave them out"
            )


def _unscored(settings: Mapping[str, Any]) -> ParbenchError:
    name, split = settings["name"], settings["split"]
    other = ", or write its server's file with submission=true" if settings.get("server") else ""
    return ParbenchError(
        f"split {split} of data set {name} has no answers to score against: choose one that has with dataset.split={other}"
    )


def is_empty(value: Any) -> bool:
    """Whether a stored answer is empty: None, NaN, blank, or a list of such values."""
    if isinstance(value, Mapping):
        return "answer" in value and is_empty(value["answer"])
    if isinstance(value, list):
        return all(map(is_empty, value))
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def with_answer_columns(settings: Mapping[str, Any], rows: Any) -> Any:
    """Rows with an empty answer column if the split has none, because lmms-eval's tasks read it."""
    for column in ANSWERS:
        if column in settings["columns"] and column not in rows.column_names:
            rows = rows.add_column(column, [None] * len(rows))
    return rows


def take_file(task: Any, folder: Path | None) -> Path | None:
    """Move the file that lmms-eval's aggregation wrote to ``submission.*`` in a run's folder.

    Args:
        task: The task, whose ``args.output_path`` the file is in.
        folder: The run's folder; None to discard the file, as for part of the data.

    Returns:
        The new path, or None if it was discarded.

    Raises:
        ParbenchError: The task wrote no file.
    """
    inside = Path(task.args.output_path) / "submissions"
    files = sorted(inside.glob("*")) if inside.is_dir() else []
    if not files:
        raise ParbenchError(f"lmms-eval's task {task.config.task} wrote no file for its server: no sample is lost")
    target = folder / f"submission{files[-1].suffix}" if folder else None
    if target:
        shutil.copyfile(files[-1], target)
    shutil.rmtree(inside)
    return target
