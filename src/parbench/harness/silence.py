"""Suppresses other libraries' output on the terminal, and restores their settings afterwards."""

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
    """While open, lmms-eval, transformers and datasets log errors only.

    On exit the handlers of loguru, the level of each library's logger and the warning filters are restored.
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
    """While open, or while a decorated function runs, datasets logs nothing and shows no progress bar.

    Its failures are raised as exceptions, so nothing is lost.
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
    """Only errors of loguru's logger reach stderr, printed above a progress bar.

    Removing a handler closes it for good. The host application's handlers are therefore set aside instead, for which loguru
    has no public function. lmms-eval, which removes all handlers in places, cannot reach them either.
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
    """Disable the tokenizers' own threads, which cause a warning in each new process."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = before or "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
