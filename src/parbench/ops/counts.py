"""Counts computed from ratios, and ranks for applying ragged counts."""

from __future__ import annotations

from torch import Tensor


def by_share(counts: Tensor, size: int) -> Tensor:
    """Counts [B], rounded through their ratio of ``size`` in floating point, as official releases do.

    The floor of size * (count / size) is one less than the count for a few counts of some sizes (never for 576).
    """
    return (size * (counts.double() / size)).long()


def rank(scores: Tensor) -> Tensor:
    """Rank of each score [B, N] in its row, 0 for the highest; ties: the lower index first."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
