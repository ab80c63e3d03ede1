"""Budgets: how many visual tokens of an image a method may leave."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parbench.errors import ParbenchError

Budget = int | float | None


def resolve(budget: Budget, total: int, method: str) -> int | None:
    """Number of tokens that a budget stands for.

    Args:
        budget: A whole number of tokens, a ratio between 0 and 1 (0.111), or None for the method's own rule.
        total: Visual tokens of an image without reduction.
        method: Named in the error.

    Returns:
        The number of tokens, or None.

    Raises:
        ParbenchError: The budget is 0, negative, more than ``total``, or no number.
    """
    if budget is None:
        return None
    usable = f"use 1 to {total} tokens, or a ratio between 0 and 1 such as 0.111"
    if isinstance(budget, bool) or not isinstance(budget, int | float):
        raise ParbenchError(f"budget={budget} of method {method} is no number: {usable}")
    if 0 < budget < 1:
        return max(1, round(budget * total))
    if budget != int(budget) or budget < 1 or budget > total:
        raise ParbenchError(
            f"budget={budget} of method {method} is impossible for a model with {total} visual tokens: {usable}"
        )
    return int(budget)


def at_depth(layers: Sequence[int], factor: float) -> tuple[int, ...]:
    """Layers given for another depth, times ``factor``: from 1 on, each behind the one before."""
    found: list[int] = []
    for layer in layers:
        found.append(max(round(layer * factor), found[-1] + 1 if found else 1))
    return tuple(found)


def scaled(shape: Sequence[int], total: Callable[[Sequence[int]], int], wanted: int, most: int) -> tuple[int, ...]:
    """Counts in the proportions of ``shape`` whose total comes as near to what is wanted as it can from below.

    Args:
        shape: Counts to be scaled by one factor.
        total: What counts add up to; must not fall when one rises.
        wanted: The greatest total.
        most: The greatest count; the least is 1.

    Returns:
        The counts; what rounding leaves over went to the last of them, then to the one before.
    """

    def times(factor: float) -> list[int]:
        return [min(most, max(1, int(factor * count))) for count in shape]

    low, high = 0.0, (most + 1) / min(shape)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if total(times(middle)) <= wanted else (low, middle)
    counts = times(low)
    for place in reversed(range(len(counts))):
        while counts[place] < most and total([*counts[:place], counts[place] + 1, *counts[place + 1 :]]) <= wanted:
            counts[place] += 1
    return tuple(counts)
