"""Farthest-point sampling of tokens."""

from __future__ import annotations

import torch
from torch import Tensor

# Squared distances below this share of the squared norms are rounding, so the tokens count as equal.
_EQUAL = 1e-12


def apart(tokens: Tensor, others: Tensor | None = None) -> Tensor:
    """Squared Euclidean distances [B, N, M] in float64 between tokens [B, N, d] and others [B, M, d]; None: themselves.

    They come from a matrix product, so that their FLOPs are counted. Tokens that are equal up to its rounding are at distance 0.
    """
    one = tokens.double()
    two = one if others is None else others.double()
    sizes = one.square().sum(2)[:, :, None] + two.square().sum(2)[:, None, :]
    found = sizes - 2 * one @ two.transpose(1, 2)
    return found.masked_fill(found <= _EQUAL * sizes, 0.0)


def farthest_points(distance: Tensor, count: int, first: Tensor | None = None) -> Tensor:
    """Greedy max-min selection: in turn, the token farthest from all selected.

    Args:
        distance: [B, N, N], symmetric; the diagonal is ignored.
        count: At most N.
        first: [B, 1] the token selected first; None for the one farthest from its nearest neighbour.

    Returns:
        [B, count] indices in the order of selection; ties: the lower index first.
    """
    # The first selection uses another distance than the rest.
    last = _most_alone(distance) if first is None else first
    gap = torch.full_like(distance[:, 0], float("inf"))
    chosen = [last]
    for _ in range(1, count):
        to_last = distance.gather(1, last[:, :, None].expand(-1, -1, distance.shape[2]))[:, 0]
        gap = torch.minimum(gap, to_last).scatter(1, last, float("-inf"))
        last = gap.argmax(dim=1, keepdim=True)
        chosen.append(last)
    return torch.cat(chosen, dim=1)[:, :count]


def farthest_weighted(distance: Tensor, count: int) -> Tensor:
    """Greedy max-min selection by distances that need not be symmetric.

    The first token is the one whose second smallest distance is greatest, since the smallest is that of itself.

    Args:
        distance: [B, i, j] of token j from i.
        count: At most N.

    Returns:
        [B, N] bool, the tokens selected; ties: the lower index first.
    """
    size = distance.shape[1]
    gap = distance.sort(dim=1).values[:, min(1, size - 1)]
    taken = torch.zeros_like(gap, dtype=torch.bool)
    for number in range(count):
        best = gap.masked_fill(taken, float("-inf")).argmax(1, keepdim=True)
        taken = taken.scatter(1, best, True)
        row = distance.gather(1, best[:, :, None].expand(-1, -1, size))[:, 0]
        gap = row if number == 0 else torch.minimum(gap, row)
    return taken


def spread(tokens: Tensor, count: int) -> Tensor:
    """Tokens that are far from each other in Euclidean distance, beginning with the one farthest from the mean of all.

    Args:
        tokens: [B, N, d].
        count: At most N.

    Returns:
        [B, count] indices in the order of selection; ties: the lower index first.
    """
    wide = tokens.double()
    first = (wide - wide.mean(1, keepdim=True)).norm(dim=-1).argmax(1, keepdim=True)
    return farthest_points(apart(wide), count, first)


def _most_alone(distance: Tensor) -> Tensor:
    """[B, 1] the token farthest from its nearest neighbour."""
    itself = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    return distance.masked_fill(itself, float("inf")).amin(dim=2).argmax(dim=1, keepdim=True)
