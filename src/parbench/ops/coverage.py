"""Greedy maximisation of coverage: how well the best of the chosen tokens stands for each thing to be covered."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.ops.selection import gather, top_k

# Gains that are computed at once.
_AT_ONCE = 32


def greedy_coverage(cover: Tensor, count: int, weight: Tensor | None = None, last: Tensor | None = None) -> Tensor:
    """Greedy coverage: each step takes the token of greatest gain.

    The gain of token j is its weight times the sum over rows r of max(0, ``cover[r, j]`` - the best of r so far). The best of a
    row begins at 0 and is the largest value of the chosen tokens, so negative values cover nothing.

    A gain never rises, also when rounded. An old gain is therefore a bound, and only the tokens of the greatest bounds are
    computed again, which chooses the same as computing all of them (lazy greedy; Minoux 1978) at a small part of the cost.

    Args:
        cover: [B, R, N] float64, how well each of N tokens covers each of R rows.
        count: At most N.
        weight: [B, N] float64, at least 0; None for 1.
        last: [B, N] bool, tokens that are taken, by index, only when no others are left; None for none.

    Returns:
        [B, count] indices in the order of selection; ties: the lower index first.
    """
    columns = cover.transpose(1, 2).contiguous()
    best = columns.new_zeros(columns.shape[0], columns.shape[2])
    weight = columns.new_ones(columns.shape[:2]) if weight is None else weight
    # What may not be taken now has a bound below every gain, and keeps it.
    barred = torch.zeros(columns.shape[:2], dtype=torch.bool, device=columns.device) if last is None else last.clone()
    bound = (weight * columns.clamp(min=0).sum(2)).masked_fill(barred, -1.0)
    chosen = []
    for _ in range(count):
        pick = _settled(columns, best, weight, barred, bound)
        chosen.append(pick)
        barred.scatter_(1, pick, True)
        bound.scatter_(1, pick, float("-inf"))
        best = torch.maximum(best, gather(columns, pick)[:, 0])
    return torch.cat(chosen, dim=1) if chosen else bound[:, :0].long()


def _settled(columns: Tensor, best: Tensor, weight: Tensor, barred: Tensor, bound: Tensor) -> Tensor:
    """[B, 1] the tokens of greatest gain. ``bound`` [B, N] is brought up to date as far as that takes."""
    known = barred.clone()
    while True:
        pick = bound.argmax(1, keepdim=True)
        if bool(known.gather(1, pick).all()):
            return pick
        top = top_k(bound, min(_AT_ONCE, bound.shape[1]))
        gain = weight.gather(1, top) * (gather(columns, top) - best[:, None]).clamp(min=0).sum(2)
        bound.scatter_(1, top, torch.where(barred.gather(1, top), bound.gather(1, top), gain))
        known.scatter_(1, top, True)
