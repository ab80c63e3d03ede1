"""Kept tokens, and one token for all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.ops.selection import compact


def kept_and_mean(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Weights for the kept patches in raster order, followed by the mean of all others.

    Args:
        keep: [B, N] bool, at least one patch of each row not kept.

    Returns:
        Weights [B, K + 1, N] in float64, with K the largest number kept; counts [B], the kept patches of a row plus one.
    """
    index, counts = compact(keep)
    valid = torch.arange(index.shape[1], device=keep.device)[None] < counts[:, None]
    weights = torch.zeros(keep.shape[0], index.shape[1] + 1, keep.shape[1], dtype=torch.float64, device=keep.device)
    weights[:, :-1].scatter_(2, index[..., None], valid[..., None].double())
    mean = (~keep).double() / (~keep).sum(dim=1, keepdim=True)
    # The mean of a shorter row follows directly after its kept patches.
    weights.scatter_(1, counts[:, None, None].expand(-1, 1, keep.shape[1]), mean[:, None])
    return weights, counts + 1
