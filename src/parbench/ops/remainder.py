"""Tokens that are kept, and one more for all the others."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.ops.selection import compact


def kept_and_mean(keep: Tensor) -> tuple[Tensor, Tensor]:
    """Weights over patches for the kept ones in raster order, followed by the plain mean of all others.

    Args:
        keep: [B, N] bool, at least one patch of each row not kept.

    Returns:
        Weights [B, K + 1, N] in float64, K the greatest number kept; counts [B], a row's kept patches and one.
    """
    index, counts = compact(keep)
    valid = torch.arange(index.shape[1], device=keep.device)[None] < counts[:, None]
    weights = torch.zeros(keep.shape[0], index.shape[1] + 1, keep.shape[1], dtype=torch.float64, device=keep.device)
    weights[:, :-1].scatter_(2, index[..., None], valid[..., None].double())
    mean = (~keep).double() / (~keep).sum(dim=1, keepdim=True)
    # A shorter row's mean comes right after its own kept patches.
    weights.scatter_(1, counts[:, None, None].expand(-1, 1, keep.shape[1]), mean[:, None])
    return weights, counts + 1
