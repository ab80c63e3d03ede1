"""The one exception for everything a person can put right; the command line prints it and exits with 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class ParbenchError(Exception):
    """One clear sentence: what is wrong, where, and what would be right."""


class FatalError(ParbenchError):
    """One that every further cell would meet too, such as a full disk: a sweep ends with it."""


class DeviceFailed(FatalError):
    """The device of this process is of no use any more until it is started anew; other devices are."""


class RunLockedError(ParbenchError):
    """Another process is computing that run."""


class UnfitSample(ParbenchError):
    """One sample cannot be answered: it counts as failed, and the others go on."""


class Uncalibrated(ParbenchError):
    """A threshold that has to be found first, by whoever has the model."""


class OutOfReach(ParbenchError):
    """No threshold brings a method to the wanted mean.

    Attributes:
        nearest: The threshold that comes nearest and the mean number of tokens that it leaves, where they were looked for.
    """

    def __init__(self, message: str, nearest: tuple[Any, float] | None = None) -> None:
        super().__init__(message)
        self.nearest = nearest


def unknown(kind: str, name: str, known: Iterable[str]) -> ParbenchError:
    """The error for a name that is not known, with the nearest names, or with all of them where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    said = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names)}"
    return ParbenchError(f"unknown {kind} '{name}': {said}")
