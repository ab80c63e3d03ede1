"""Tokens in groups, such as the parts of an image: dividing a budget among them, and choosing within each."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from parbench.ops.counts import rank


def apportion(total: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """Divide a number of tokens among groups in proportion to weights, by largest remainder; ties: the earlier group.

    A group whose share exceeds what it has gets all it has, and the others divide the rest. Where only groups of weight 0 are
    left, they divide it in proportion to what they have. All arithmetic is exact.

    Args:
        total: The number, at most the sum of ``most``.
        weights: Non-negative weight of each group.
        most: What each group has.

    Returns:
        The number for each group; their sum is ``total``.

    Raises:
        ValueError: The groups have fewer than ``total``.
    """
    if total > sum(most):
        raise ValueError(f"groups of {sum(most)} tokens cannot give {total}")
    found, open_ = [0] * len(most), [number for number, room in enumerate(most) if room]
    while open_ and total:
        shares = _shares(total, weights, most, open_)
        full = [number for number in open_ if shares[number] >= most[number]]
        for number in full:
            found[number] = most[number]
            total -= most[number]
        if not full:
            for number in open_:
                found[number] = int(shares[number])
            behind = sorted(open_, key=lambda number: (found[number] - shares[number], number))
            for number in behind[: total - sum(found[number] for number in open_)]:
                found[number] += 1
            break
        open_ = [number for number in open_ if number not in full]
    return found


def _shares(total: int, weights: Sequence[float], most: Sequence[int], groups: Sequence[int]) -> dict[int, Fraction]:
    exact = {number: Fraction(weights[number]) for number in groups}
    whole = sum(exact.values())
    if not whole:
        exact = {number: Fraction(most[number]) for number in groups}
        whole = sum(exact.values())
    return {number: total * weight / whole for number, weight in exact.items()}


def top_by_group(scores: Tensor, group: Tensor, counts: Tensor) -> Tensor:
    """The tokens with the highest scores of each group; ties: the lower index first.

    Args:
        scores: [B, N].
        group: [N] index of each token's group.
        counts: [B, G] how many tokens of each group.

    Returns:
        [B, N] bool.
    """
    keep = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    for number in range(counts.shape[1]):
        index = (group == number).nonzero().flatten().to(scores.device)
        keep[:, index] = rank(scores[:, index]) < counts[:, number : number + 1].to(scores.device)
    return keep


def sum_by_group(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sums of values [B, N] over the tokens of each group, [B, G]; ``group`` [N] is the index of each token's group."""
    found = values.new_zeros(len(values), groups)
    return found.index_add(1, group.to(values.device), values)
