"""Restores the process's global random state, which lmms-eval seeds."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """Save the global random state of random, numpy and torch, and restore it on exit.

    CUDA generators are included unless CUDA is first used inside the context.
    """
    import numpy as np
    import torch

    python, numbers, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cards = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)
        torch.set_rng_state(tensors)
        if cards:
            torch.cuda.set_rng_state_all(cards)
