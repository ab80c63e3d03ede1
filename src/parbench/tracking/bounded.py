"""Calls a library with a time limit, so that its hangs and errors do not affect the evaluation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from parbench.redact import without_secrets

T = TypeVar("T")


class Lost(Exception):
    """A call failed, or did not return in time; the message gives the reason in a few words, without secrets."""


def bounded(call: Callable[[], T], seconds: float) -> T:
    """The result of a call if it returns in time; otherwise it is abandoned in a daemon thread.

    Args:
        call: The call.
        seconds: The time limit.

    Raises:
        Lost: The call failed or took too long.
    """
    given: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            given.append(call())
        # Not even a sys.exit in the library may end the evaluation.
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
    """The first sentence of an exception's message, or its name if it has no message."""
    said = str(error).strip().split("\n")[0].split(". ")[0].strip().rstrip(".")
    return without_secrets(said) or type(error).__name__
