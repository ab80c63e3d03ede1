"""The identity of a data set: its content, its prompts and its scoring."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from parbench.errors import unknown
from parbench.harness.local.sources import fingerprint
from parbench.harness.sources import data_fingerprint, refuse_ignored
from parbench.harness.task_file import TaskFile


def identity_of(task: TaskFile, rows: Callable[[], Any]) -> str:
    """SHA-256 of the data and of the task that builds the prompts and scores the answers.

    Args:
        task: The data set's task, with its settings.
        rows: Gives all rows; called only if the content of the rows is hashed, as for a user's own data.

    Raises:
        ParbenchError: The data cannot be found.
    """
    settings = task.settings
    refuse_ignored(settings)
    # Prompt, generation arguments and scoring are in the task's YAML and in files in its folder.
    parts = [_data(task, rows).encode(), settings["split"].encode(), settings["images"].encode(), *task.content]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _data(task: TaskFile, rows: Callable[[], Any]) -> str:
    """The identity of the data alone, without the task."""
    settings = task.settings
    if settings["hub"] is None:
        return _scenes(settings)
    if source := settings.get("source"):
        return fingerprint(rows(), task.path if source == "task" else None)
    return data_fingerprint(settings)


def _scenes(settings: Mapping[str, Any]) -> str:
    from parbench.scenes.splits import VIDEO_TASK, chance, recorded_fingerprints, splits_of

    split, skill, task = settings["split"], settings["skill"], settings["task"]
    known, skills = splits_of(task), chance(task)
    clips = task == VIDEO_TASK
    named = settings["name"] if clips or settings.get("turn") else "scenes"
    if split not in known:
        raise unknown(f"dataset.split of {named}", split, known)
    if skill is not None and skill not in skills:
        raise unknown(f"dataset.skill of {named if clips else 'scenes'}", str(skill), skills)
    return f"{recorded_fingerprints()[known[split]]}/{skill}"
