"""Keeps other libraries' chatter off the terminal, and leaves their settings as they were."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from parbench.models.silence import quiet_transformers


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While open, lmms-eval, transformers and datasets say errors only.

    Afterwards the handlers of loguru, the level of each library's logger and the filters of warnings are as before.
    """
    with (
        _tokenizers_in_one_thread(),
        _loguru_errors_only(),
        _level("lmms-eval", logging.ERROR),
        quiet_transformers(),
        quiet_datasets(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """While open, or while a function that it decorates runs, datasets says nothing and shows no progress bar.

    What goes wrong there is raised, and said once.
    """
    import datasets

    verbosity, bars = datasets.logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    if bars:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _loguru_errors_only() -> Iterator[None]:
    """Errors of loguru's logger on the error output as it is at that moment, above a progress bar; nothing else of it.

    A handler that is removed is closed for good. So the handlers of whoever uses parbench are not removed but laid aside, which
    loguru has no public call for. lmms-eval, which throws out all handlers in places, does not reach them either.
    """
    from loguru import logger

    core = logger._core  # type: ignore[attr-defined]
    with core.lock:
        before = core.handlers, core.min_level
        core.handlers, core.min_level = {}, float("inf")
    try:
        logger.add(_write, level="ERROR", format="{message}")
        yield
    finally:
        logger.remove()
        with core.lock:
            core.handlers, core.min_level = before


def _write(text: str) -> None:
    sys.stderr.write(text)


@contextlib.contextmanager
def _level(name: str, level: int) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _tokenizers_in_one_thread() -> Iterator[None]:
    """Without the tokenizers' own threads, about which they would warn at each new process."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = before or "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
