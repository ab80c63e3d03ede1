"""Keeps transformers' chatter off the terminal while something of it is used, and gives it its voice back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """While open, or while a function that it decorates runs, transformers says errors only and shows no progress bar.

    Afterwards its verbosity and bars, and those of huggingface_hub that go with them, are as before.
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
            # It switches the hub's bars on too.
            logging.enable_progress_bar()
            if not hub_bars:
                disable_progress_bars()
