"""The global random numbers of a host's process, which lmms-eval seeds, as they were before."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """While open, global generators may be seeded; afterwards those of random, numpy and torch go on where they were.

    Generators of CUDA devices too, unless CUDA is first used while it is open.
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
