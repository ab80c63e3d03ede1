"""Silences transformers' messages and progress bars temporarily."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers log errors only and show no progress bars, inside the block or the decorated function.

    Afterwards the verbosity and bars of transformers and huggingface_hub are restored.
    """
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity, bars, hub_bars = (
        logging.get_verbosity(),
        logging.is_progress_bar_enabled(),
        not are_progress_bars_disabled(),
    )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            # This also switches the hub's bars on.
            logging.enable_progress_bar()
            if not hub_bars:
                disable_progress_bars()
