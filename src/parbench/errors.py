"""Errors that a user can fix. The command line prints their message and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ParbenchError(Exception):
    """An error that a user can fix. The message says what is wrong, where, and what would be right."""


class FatalError(ParbenchError):
    """An error that every further run would have too, such as a full disk. It ends a sweep."""


class DeviceFailed(FatalError):
    """The device of this process failed and is unusable until the process is restarted. Other devices are not affected."""


class RunLockedError(ParbenchError):
    """Another process is computing the run."""


class UnfitSample(ParbenchError):
    """One sample cannot be answered. It counts as failed; the others are still answered."""


class Uncalibrated(ParbenchError):
    """The method needs a threshold that has not been calibrated yet."""


class OutOfReach(ParbenchError):
    """No threshold gives a method the desired mean number of tokens.

    Attributes:
        nearest: The nearest threshold and its mean number of tokens; None if no search was made.
    """

    def __init__(self, message: str, nearest: tuple[Any, float] | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


def unknown(kind: str, name: str, known: Iterable[str]) -> ParbenchError:
    """The error for a name that is not known, with the nearest names, or with all of them where none is near."""
    names = sorted(map(str, known))
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    said = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names)}"
    return ParbenchError(f"unknown {kind} '{name}': {said}")
