"""FLOP counting of method overhead. Counting slows every operation down, so timings switch it off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry, shape_wrapper

_COUNTING: ContextVar[bool] = ContextVar("counting", default=True)
# For each open count of method overhead: what is added to it.
_ADDED: ContextVar[tuple[list[int], ...]] = ContextVar("added", default=())


def _distances(left: torch.Size, right: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of distances between the rows of [..., M, d] and [..., N, d]; each squared difference is a multiply-add."""
    return 2 * left.numel() * right[-2]


def _products(matrix: torch.Size, *_: Any, **__: Any) -> int:
    """FLOPs of products of a matrix [M, N], or a vector, with a vector [N]."""
    return 2 * matrix.numel()


def _added_products(_added: torch.Size, matrix: torch.Size, *_: Any, **__: Any) -> int:
    """As :func:`_products`, added to a vector."""
    return _products(matrix)


# Torch has no formulas for distances, however they are computed, and for products with a vector.
_MORE = {
    torch.ops.aten._cdist_forward: _distances,
    torch.ops.aten._euclidean_dist: _distances,
    torch.ops.aten.mv: _products,
    torch.ops.aten.dot: _products,
    torch.ops.aten.vdot: _products,
    torch.ops.aten.addmv: _added_products,
}
_FORMULAS = flop_registry | {operator: shape_wrapper(formula) for operator, formula in _MORE.items()}


class _Counter(TorchDispatchMode):
    """Adds up the FLOPs of what is computed inside.

    The same as torch's ``FlopCounterMode``, by its formulas. That one also keeps a tree of modules, and asks of every operation
    anew whether it is made of others, which takes several times as long as the many small operations of a selection.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute an operation and count it, or the operations that it is made of."""
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            # Control flow such as torch.cond, whose branches torch's counter knows.
            with FlopCounterMode(display=False, custom_mapping=_MORE) as counter:
                out = func(*args, **kwargs)
            self.flops += counter.get_total_flops()
            return out
        composite, formula = _about(func)
        if composite:
            with self:
                return func.decompose(*args, **kwargs)
        out = func(*args, **kwargs)
        if formula is not None:
            self.flops += formula(*args, **kwargs, out_val=out)
        return out


@cache
def _about(func: torch._ops.OpOverload) -> tuple[bool, Callable[..., int] | None]:
    """Whether an operation is made of others, and the formula for its FLOPs."""
    composite = func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)
    return composite, _FORMULAS.get(func.overloadpacket)


@contextmanager
def own_flops() -> Iterator[Callable[[], int]]:
    """Count method overhead inside the block.

    Yields a function that returns the FLOPs so far (2 per multiply-add; 0 if uncounted), with those of ``add_flops``.
    """
    if not _COUNTING.get():
        yield lambda: 0
        return
    added: list[int] = []
    token = _ADDED.set((*_ADDED.get(), added))
    try:
        with _Counter() as counter:
            yield lambda: counter.flops + sum(added)
    finally:
        _ADDED.reset(token)


def add_flops(flops: int) -> None:
    """Add FLOPs that are not computed here to the overhead that is being counted."""
    for added in _ADDED.get():
        added.append(flops)


@contextmanager
def without_flops() -> Iterator[None]:
    """Leave what is computed inside the block out of the overhead that is being counted."""
    if not _ADDED.get():
        yield
        return
    with _Counter() as counter:
        yield
    add_flops(-counter.flops)


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
