"""Silences transformers' messages and progress bars temporarily."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_LOCK = threading.Lock()
# How many blocks are open, in all threads, and what restores the state before the first of them.
_open = 0
_restore: Callable[[], None] | None = None


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers log errors only and show no progress bars, inside the block or the decorated function.

    When the last of the blocks that are open in any thread ends, the verbosity and bars of transformers and huggingface_hub are
    restored.
    """
    global _open, _restore
    with _LOCK:
        if not _open:
            _restore = _silence()
        _open += 1
    try:
        yield
    finally:
        with _LOCK:
            _open -= 1
            if not _open and _restore is not None:
                _restore()
                _restore = None


def _silence() -> Callable[[], None]:
    """Silence both libraries. Returns what restores them."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity, bars, hub_bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    def restore() -> None:
        logging.set_verbosity(verbosity)
        if bars:
            # This also switches the hub's bars on.
            logging.enable_progress_bar()
            if not hub_bars:
                disable_progress_bars()

    return restore
