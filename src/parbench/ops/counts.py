"""Counts computed from ratios, and ranks for applying ragged counts."""

from __future__ import annotations

import torch
from torch import Tensor


def by_share(counts: Tensor, size: int) -> Tensor:
    """Counts [B], rounded through their ratio of ``size`` in floating point, as official releases do.

    The floor of size * (count / size) is one less than the count for a few counts of some sizes (never for 576).
    """
    return (size * (counts.double() / size)).long()


def rank(scores: Tensor) -> Tensor:
    """Rank of each score [B, N] in its row, 0 for the highest; ties: the lower index first."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def in_proportion(counts: Tensor, total: Tensor) -> Tensor:
    """Counts [B, P] scaled to the totals [B], by largest remainder; ties: the earlier part.

    A row without counts gives its total to the first part.
    """
    given = counts.clone()
    given[:, 0] += (counts.sum(1) == 0).long()
    share = given * total[:, None]
    whole = given.sum(1, keepdim=True)
    left = total - (share // whole).sum(1)
    return share // whole + (rank(share % whole) < left[:, None]).to(torch.long)
