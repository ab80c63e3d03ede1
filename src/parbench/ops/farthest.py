"""Farthest-point sampling of tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_points(distance: Tensor, count: int) -> Tensor:
    """Greedy max-min selection: first the token farthest from its nearest neighbour, then the one farthest from all selected.

    Args:
        distance: [B, N, N], symmetric; the diagonal is ignored.
        count: At most N.

    Returns:
        [B, count] indices in the order of selection; ties: the lower index first.
    """
    itself = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    gap = distance.masked_fill(itself, float("inf")).amin(dim=2)
    # The first selection uses another distance than the rest.
    last = gap.argmax(dim=1, keepdim=True)
    gap = torch.full_like(gap, float("inf"))
    chosen = [last]
    for _ in range(1, count):
        to_last = distance.gather(1, last[:, :, None].expand(-1, -1, distance.shape[2]))[:, 0]
        gap = torch.minimum(gap, to_last).scatter(1, last, float("-inf"))
        last = gap.argmax(dim=1, keepdim=True)
        chosen.append(last)
    return torch.cat(chosen, dim=1)[:, :count]
