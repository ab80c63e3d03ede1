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
    from parbench.scenes.questions import SKILLS
    from parbench.scenes.splits import recorded_fingerprints, splits_of

    split, skill = settings["split"], settings["skill"]
    known = splits_of(settings["task"])
    if split not in known:
        raise unknown(f"dataset.split of {settings['task'] if settings.get('turn') else 'scenes'}", split, known)
    if skill is not None and skill not in SKILLS:
        raise unknown("dataset.skill of scenes", str(skill), SKILLS)
    return f"{recorded_fingerprints()[known[split]]}/{skill}"
