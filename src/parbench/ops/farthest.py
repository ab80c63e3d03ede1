"""Farthest-point sampling: tokens that lie far from one another."""

from __future__ import annotations

import torch
from torch import Tensor


def farthest_points(distance: Tensor, count: int) -> Tensor:
    """Greedy max-min choice: first the token farthest from its nearest other one, then always the one farthest from all chosen.

    Args:
        distance: [B, N, N], symmetric; the diagonal is not looked at.
        count: At most N.

    Returns:
        [B, count] in the order of choice; ties go to the lower index.
    """
    itself = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    gap = distance.masked_fill(itself, float("inf")).amin(dim=2)
    # The first choice is made by another gap than the rest.
    last = gap.argmax(dim=1, keepdim=True)
    gap = torch.full_like(gap, float("inf"))
    chosen = [last]
    for _ in range(1, count):
        to_last = distance.gather(1, last[:, :, None].expand(-1, -1, distance.shape[2]))[:, 0]
        gap = torch.minimum(gap, to_last).scatter(1, last, float("-inf"))
        last = gap.argmax(dim=1, keepdim=True)
        chosen.append(last)
    return torch.cat(chosen, dim=1)[:, :count]
