"""Selection of tokens: top-k with ties, masks, and gathering."""

from __future__ import annotations

import torch
from torch import Tensor


def top_k(scores: Tensor, k: int) -> Tensor:
    """Indices of the ``k`` highest scores in descending order; ties: the lower index first.

    Args:
        scores: [..., N].
        k: At most N.

    Returns:
        [..., k].
    """
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :k]


def to_mask(index: Tensor, size: int) -> Tensor:
    """Convert indices [B, K] to a bool mask [B, size]."""
    mask = torch.zeros(index.shape[0], size, dtype=torch.bool, device=index.device)
    return mask.scatter_(1, index, True)


def compact(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the True entries in raster order, padded at the end.

    Args:
        mask: [B, N] bool.

    Returns:
        Indices [B, K] with K the largest count (padded by arbitrary False positions), and counts [B].
    """
    counts = mask.sum(dim=1)
    longest = int(counts.max()) if len(counts) else 0
    return (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :longest], counts


def gather(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows of tokens [B, N, d] at index [B, K]: [B, K, d]."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def outliers(values: Tensor) -> Tensor:
    """Values strictly above the upper Tukey fence Q3 + 1.5 (Q3 - Q1) of their row.

    Args:
        values: [B, N].

    Returns:
        Bool [B, N].
    """
    wide = values.double()
    q1, q3 = (wide.quantile(q, dim=-1, keepdim=True) for q in (0.25, 0.75))
    return wide > q3 + 1.5 * (q3 - q1)


def knee(values: Tensor) -> Tensor:
    """[B] index of the point farthest from the chord between the ends of a curve; ties: the lower index.

    Args:
        values: [B, N], sorted.
    """
    share = torch.linspace(0, 1, values.shape[1], dtype=torch.float64, device=values.device)
    curve = values.double()
    chord = curve[:, :1] + (curve[:, -1:] - curve[:, :1]) * share
    # The distance to the chord is proportional to the vertical gap.
    return (curve - chord).abs().argmax(1)
