"""Calls into a library that may hang or break, without hanging or breaking with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from parbench.redact import without_secrets

T = TypeVar("T")


class Lost(Exception):
    """A call failed, or did not come back in time; says why in a few words, no secret among them."""


def bounded(call: Callable[[], T], seconds: float) -> T:
    """What a call gives, if it comes back in time; else it is left behind in a thread that no exit waits for.

    Raises:
        Lost: It failed or took too long.
    """
    given: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            given.append(call())
        # Not even sys.exit of the library may end the evaluation.
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise Lost(reason(failed[0])) from failed[0]
    if not given:
        raise Lost(f"no answer within {seconds:g} s")
    return given[0]


def reason(error: BaseException) -> str:
    """The first sentence of what an exception says, else its name."""
    said = str(error).strip().split("\n")[0].split(". ")[0].strip().rstrip(".")
    return without_secrets(said) or type(error).__name__
