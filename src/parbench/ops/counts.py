"""Counts that follow from ratios, and ranks to apply ragged counts with."""

from __future__ import annotations

from torch import Tensor


def by_share(counts: Tensor, size: int) -> Tensor:
    """Counts [B] by way of their share of ``size`` in floating point, as releases take them from a ratio.

    The floor of size * (count / size) is one less than the count for a few counts of some sizes (for none of 576).
    """
    return (size * (counts.double() / size)).long()


def rank(scores: Tensor) -> Tensor:
    """Place of each score [B, N] in its row in descending order, 0 the greatest; ties go to the lower index."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
