"""Validates the settings of a data set (``conf/dataset``)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from parbench.errors import ParbenchError, unknown

# What of a conversation the prompt of a turn holds: earlier questions with the model's own answers, or nothing.
HISTORIES = ("own", "none")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the values of a data set's settings; the files that they name are not opened.

    Raises:
        ParbenchError: A value is not allowed.
    """
    if settings.get("source") == "task" and not settings["yaml"]:
        raise ParbenchError("dataset=task-by-path needs a task: write dataset=path/to/task.yaml")
    if settings["images"] not in ("real", "noise"):
        raise ParbenchError(f"dataset.images={settings['images']} is not known: use real or noise")
    if not isinstance(settings.get("ocr", False), bool):
        raise ParbenchError(f"dataset.ocr={settings['ocr']} is neither true nor false")
    if settings.get("turn"):
        _check_turns(settings)
    _check_sampling(settings)
    most = settings.get("max_new_tokens")
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise ParbenchError(
            f"dataset.max_new_tokens={most} is not a number of tokens from 1 on: leave it out for what the task says"
        )


def _check_sampling(settings: Mapping[str, Any]) -> None:
    frames, fps = settings.get("frames", 1), settings.get("fps")
    if not isinstance(frames, int) or isinstance(frames, bool) or frames < 1:
        raise ParbenchError(f"dataset.frames={frames} is not a number of frames from 1 on")
    number = isinstance(fps, int | float) and not isinstance(fps, bool) and math.isfinite(fps)
    if fps is not None and not (number and fps > 0):
        raise ParbenchError(f"dataset.fps={fps} is not a number of frames a second above 0: leave it out for frames alone")


def _check_turns(settings: Mapping[str, Any]) -> None:
    if settings["history"] not in HISTORIES:
        raise unknown("dataset.history", str(settings["history"]), HISTORIES)
    if settings["skill"] is not None:
        raise ParbenchError(
            f"dataset.skill={settings['skill']} would tear the conversations of {settings['name']} apart: leave it out; "
            "the table has accuracy by skill"
        )
