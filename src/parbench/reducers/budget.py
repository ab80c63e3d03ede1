"""Budgets: how many visual tokens of an image a method may leave."""

from __future__ import annotations

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
