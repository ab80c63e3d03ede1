"""The best choice of a level for each region under a budget."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def best_levels(gain: Tensor, costs: Sequence[int], room: int) -> Tensor:
    """One level for each region, with the greatest sum of gains among the choices that cost most within the room.

    It is exact, by dynamic programming over costs. Ties: the earlier level, in the later regions first.

    Args:
        gain: [B, R, L] finite gain of each level in each region.
        costs: Cost of each of the L levels, integers of 0 or more.
        room: Greatest cost of all regions together, at least R times the least cost.

    Returns:
        [B, R] the chosen levels. All images have the same total cost.
    """
    batch, regions, _ = gain.shape
    wide = gain.detach().double()
    best = wide.new_full((batch, room + 1), float("-inf"))
    best[:, 0] = 0
    taken = []
    for region in range(regions):
        options = wide.new_full((batch, len(costs), room + 1), float("-inf"))
        for level, cost in enumerate(costs):
            if cost <= room:
                options[:, level, cost:] = best[:, : room + 1 - cost] + wide[:, region, level, None]
        best, level_at = options.max(1).values, options.argmax(1)
        taken.append(level_at)
    reached = int(best[0].isfinite().nonzero().max())
    left = torch.full((batch, 1), reached, device=gain.device)
    price = torch.tensor(costs, device=gain.device)
    chosen = []
    for level_at in reversed(taken):
        picked = level_at.gather(1, left)
        chosen.append(picked)
        left = left - price[picked]
    return torch.cat(chosen[::-1], dim=1)
