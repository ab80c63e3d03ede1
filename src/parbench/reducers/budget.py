"""Budgets: how many visual tokens of an image or a video a method may keep.

A whole number counts the tokens of an image, or of all frames of a video together. A ratio is a share of its own tokens. A number
of tokens a frame, written ``16/frame``, is multiplied by the frames of a video; an image counts as one. Where a model merges
frames, as Qwen2-VL merges two, a merged one is a frame. Separators do not count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from parbench.errors import ParbenchError

Budget = int | float | None
# Relative deviation of the mean kept tokens from the budget above which tables mark a run.
FAR = 0.05
# What follows the number of a budget for each frame, and the value of ``Reducer.per`` for it.
FRAME = "frame"
_PER_FRAME = re.compile(rf"\s*(\d+)\s*/\s*{FRAME}\s*")


def split(budget: Any) -> tuple[Any, str | None]:
    """A budget's number, and what it is for: ``16/frame`` is 16 for each frame; None for the whole image or video."""
    found = _PER_FRAME.fullmatch(budget) if isinstance(budget, str) else None
    return (budget, None) if found is None else (int(found[1]), FRAME)


def written(budget: Budget, per: str | None) -> Budget | str:
    """The reverse of :func:`split`."""
    return budget if budget is None or per is None else f"{budget}/{per}"


def check_budget(budget: Any, key: str = "budget") -> None:
    """Refuse a value that is not a budget for any model.

    Args:
        budget: The value; None for no budget.
        key: Its name in the error.

    Raises:
        ParbenchError: It is not a finite number, 0 or negative, a fraction above 1, or 1.0, which may mean one token or all.
    """
    budget, _ = split(budget)
    if budget is None:
        return
    if isinstance(budget, float) and budget == 1:
        raise ParbenchError(f"{key}=1.0 may mean one token or all of them: write {key}=1 for one token, or method=none for all")
    number = isinstance(budget, int | float) and not isinstance(budget, bool) and math.isfinite(budget)
    if not number or budget <= 0 or (budget > 1 and budget != int(budget)):
        raise ParbenchError(
            f"{key}={budget} is not possible: use a whole number of tokens such as 64, or a ratio between 0 and 1 such as 0.111"
        )


def resolve(budget: Budget, total: int, method: str, *, varies: bool = False) -> int | None:
    """A budget in tokens.

    Args:
        budget: A whole number of tokens, a ratio between 0 and 1 (0.111), or None for no budget.
        total: Visual tokens of an image without reduction.
        method: Its name in the error.
        varies: Whether ``total`` is that of one image of many sizes. A budget above it then keeps all its tokens.

    Returns:
        The number of tokens; None without a budget.

    Raises:
        ParbenchError: The budget is not a number, 0 or negative, 1.0, or more than ``total`` where that is the same for all images.
    """
    if budget is None:
        return None
    check_budget(budget)
    if budget < 1:
        return max(1, round(budget * total))
    if budget > total:
        if varies:
            return total
        raise ParbenchError(
            f"budget={budget} of method {method} is impossible for a model with {total} visual tokens: use 1 to {total} tokens, or "
            "a ratio between 0 and 1 such as 0.111"
        )
    return int(budget)


def at_depth(layers: Sequence[int], factor: float) -> tuple[int, ...]:
    """Layers times ``factor``, rounded, to scale them to another depth. Each is at least 1 and above the one before."""
    found: list[int] = []
    for layer in layers:
        found.append(max(round(layer * factor), found[-1] + 1 if found else 1))
    return tuple(found)


def falling_counts(stages: Sequence[int], layers: int, tokens: int, average: int) -> tuple[int, ...]:
    """Numbers of tokens after each of some stages, r, r^2, r^3 ... of those before the first, with a given average over all layers.

    Args:
        stages: The layers before which tokens are dropped, in ascending order.
        layers: Number of layers.
        tokens: Tokens that enter layer 0.
        average: Their average over all layers.

    Returns:
        At least one token for each stage, rounded.
    """
    bounds = (*stages, layers)
    low, high = 0.0, 1.0
    for _ in range(50):
        ratio = (low + high) / 2
        total = bounds[0] + sum((bounds[i + 1] - bounds[i]) * ratio ** (i + 1) for i in range(len(stages)))
        low, high = (ratio, high) if total * tokens < average * layers else (low, ratio)
    return tuple(max(1, round(tokens * high ** (i + 1))) for i in range(len(stages)))


def scaled(shape: Sequence[int], total: Callable[[Sequence[int]], int], wanted: int, most: int) -> tuple[int, ...]:
    """Counts in the proportions of ``shape`` with the largest total that is at most ``wanted``.

    Args:
        shape: Counts to be scaled by one factor.
        total: The total of a list of counts; must not fall if a count rises.
        wanted: The largest allowed total.
        most: The largest allowed count; the smallest is 1.

    Returns:
        The counts. The remainder of rounding is added to the last of them, then to the one before.
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
