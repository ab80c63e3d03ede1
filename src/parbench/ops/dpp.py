"""Determinantal point processes: greedy maximisation of the determinant."""

from __future__ import annotations

import torch
from torch import Tensor


def greedy_map(kernel: Tensor, count: int, spare: Tensor) -> Tensor:
    """Greedy MAP of a DPP with an incremental Cholesky factor: each step adds the token that increases the determinant most.

    A kernel of rank R has no subset of more than R tokens with a positive determinant. Tokens beyond the rank are added in
    descending order of ``spare``. The rank is reached when the best remaining gain is rounding noise.

    Args:
        kernel: [B, N, N] float64, symmetric and positive semi-definite.
        count: At most N.
        spare: [B, N] scores for tokens beyond the rank.

    Returns:
        [B, count] indices in the order of selection; ties: the lower index first.
    """
    batch, size, _ = kernel.shape
    gain = kernel.diagonal(dim1=1, dim2=2).clone()
    noise = gain.amax(dim=1, keepdim=True) * size * torch.finfo(kernel.dtype).eps
    factors = kernel.new_zeros(batch, max(count, 1), size)
    taken = torch.zeros(batch, size, dtype=torch.bool, device=kernel.device)
    chosen = []
    for step in range(count):
        exhausted = gain.masked_fill(taken, float("-inf")).amax(dim=1, keepdim=True) <= noise
        score = torch.where(exhausted, spare, gain).masked_fill(taken, float("-inf"))
        pick = score.argmax(dim=1, keepdim=True)
        row = kernel.gather(1, pick[:, :, None].expand(-1, -1, size))
        known = factors[:, :step]
        at_pick = known.gather(2, pick[:, None].expand(-1, step, -1))
        new = (row - at_pick.transpose(1, 2) @ known)[:, 0] / gain.gather(1, pick).clamp(min=1e-300).sqrt()
        factors[:, step] = new.masked_fill(exhausted, 0.0)
        gain = gain - factors[:, step] ** 2
        taken.scatter_(1, pick, True)
        chosen.append(pick)
    return torch.cat(chosen, dim=1)
