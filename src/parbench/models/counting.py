"""FLOP counting of method overhead. Counting slows every operation down, so timings switch it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_COUNTING: ContextVar[bool] = ContextVar("counting", default=True)


def _distances(left: torch.Size, right: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of distances between the rows of [..., M, d] and [..., N, d]; each squared difference is a multiply-add."""
    return 2 * left.numel() * right[-2]


# Torch's counter ignores distances, however they are computed.
_MORE = {torch.ops.aten._cdist_forward: _distances, torch.ops.aten._euclidean_dist: _distances}


@contextmanager
def own_flops() -> Iterator[Callable[[], int]]:
    """Count method overhead inside the block.

    Yields a function that returns the FLOPs so far (2 per multiply-add; 0 if uncounted).
    """
    if not _COUNTING.get():
        yield lambda: 0
        return
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        yield counter.get_total_flops


def counting() -> bool:
    """Whether FLOPs are counted now."""
    return _COUNTING.get()


@contextmanager
def uncounted() -> Iterator[None]:
    """Switch counting off inside the block, so that nothing is slowed down."""
    token = _COUNTING.set(False)
    try:
        yield
    finally:
        _COUNTING.reset(token)
