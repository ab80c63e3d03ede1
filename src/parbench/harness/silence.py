"""Keeps other libraries' chatter off the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from tqdm import tqdm


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """While open, lmms-eval and transformers say errors only."""
    from loguru import logger

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logger.remove()
    # Above a progress bar, not through it.
    handler = logger.add(lambda text: tqdm.write(text, file=sys.stderr, end=""), level="ERROR", format="{message}")
    for name in ("transformers", "lmms-eval"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        # lmms-eval may have thrown all handlers out by itself.
        with contextlib.suppress(ValueError):
            logger.remove(handler)
