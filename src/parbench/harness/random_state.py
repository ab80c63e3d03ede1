"""Keeps the process's global random state from what lmms-eval does to it, and its guesses repeatable."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any


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


@contextlib.contextmanager
def dice_of(doc: Mapping[str, Any], answers: Any) -> Iterator[None]:
    """Let ``random`` draw the same for a row and its answers wherever and whenever they are scored; restore its state on exit.

    Some tasks of lmms-eval, such as MMMU, choose an option at random where they find none in an answer. Without this, a score
    would depend on what was scored before it, and differ between shards, after a resumption and from the sample's own record.

    Args:
        doc: The row. Its texts and numbers count, not its images.
        answers: What the model answered.
    """
    before = random.getstate()
    told = {name: value for name, value in doc.items() if isinstance(value, str | int | float)}
    random.seed(f"{sorted(told.items())} {answers}")
    try:
        yield
    finally:
        random.setstate(before)
