"""FLOPs of what runs inside a block; counting slows every operation down, so that who takes times switches it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

_COUNTING: ContextVar[bool] = ContextVar("counting", default=True)


def _distances(left: torch.Size, right: torch.Size, *_: Any, **__: Any) -> int:
    """Distances between the rows of [..., M, d] and [..., N, d]: one difference squared and added is a multiply-add."""
    return 2 * left.numel() * right[-2]


# Torch's counter leaves distances out, however they are computed.
_MORE = {torch.ops.aten._cdist_forward: _distances, torch.ops.aten._euclidean_dist: _distances}


@contextmanager
def own_flops() -> Iterator[Callable[[], int]]:
    """Count a method's own work; gives a function that says how many FLOPs (2 per multiply-add) it was, 0 when uncounted."""
    if not _COUNTING.get():
        yield lambda: 0
        return
    with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
        yield counter.get_total_flops


def counting() -> bool:
    """Whether work is counted here."""
    return _COUNTING.get()


@contextmanager
def uncounted() -> Iterator[None]:
    """While open, nothing is counted and nothing is slowed down."""
    token = _COUNTING.set(False)
    try:
        yield
    finally:
        _COUNTING.reset(token)
