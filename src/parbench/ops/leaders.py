"""Leaders: tokens in order of density, of which each is far from all leaders before it."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.ops.selection import compact, gather

# Halvings of the range of cosine distances in which a cutoff is searched.
_HALVINGS = 16


def turns(density: Tensor, valid: Tensor) -> Tensor:
    """[B, M] the place of each token in descending order of density; ties: the lower index first; padding last.

    Args:
        density: [B, M].
        valid: [B, M] bool, False for padding.
    """
    return density.masked_fill(~valid, float("-inf")).argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def leaders(distance: Tensor, turn: Tensor, valid: Tensor, cutoff: Tensor) -> Tensor:
    """Walk over the tokens in turn: one is a leader if its distance to every leader so far is above the cutoff.

    Computed in rounds. In each, tokens that no open token before them covers become leaders, and what these cover is closed.

    Args:
        distance: [B, M, M], symmetric.
        turn: [B, M] see :func:`turns`.
        valid: [B, M] bool, False for padding.
        cutoff: [B].

    Returns:
        [B, M] bool.
    """
    covers = distance <= cutoff[:, None, None]
    before = covers & (turn[:, None] < turn[:, :, None])
    found, open_ = torch.zeros_like(valid), valid
    while bool(open_.any()):
        new = open_ & ~(before & open_[:, None]).any(2)
        found = found | new
        open_ = open_ & ~new & ~(covers & new[:, None]).any(2)
    return found


def cutoff_for(distance: Tensor, turn: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """The cutoff of each row at which at least ``count`` leaders are left, as large as halving the range from -1 to 2 finds.

    Below 0, every token is a leader.

    Args:
        distance: [B, M, M] from 0 to 2.
        turn: [B, M] see :func:`turns`.
        valid: [B, M] bool, False for padding.
        count: [B] from 1 to the number of valid tokens.

    Returns:
        [B] in the dtype of ``distance``.
    """
    low, high = distance.new_full(count.shape, -1.0), distance.new_full(count.shape, 2.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = leaders(distance, turn, valid, middle).sum(1) >= count
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low


def first_leaders(found: Tensor, turn: Tensor, count: Tensor) -> Tensor:
    """The first ``count`` [B] of the leaders ``found`` [B, M] in turn, [B, M] bool."""
    order = turn.masked_fill(~found, turn.shape[1]).argsort(dim=1).argsort(dim=1)
    return found & (order < count[:, None])


def nearest_leader(vectors: Tensor, valid: Tensor, leader: Tensor, limit: Tensor) -> Tensor:
    """The leader of smallest cosine distance to each token, if that is within the limit; ties: the lower index first.

    Args:
        vectors: [B, N, d] unit vectors.
        valid: [B, N] bool, False for padding.
        leader: [B, N] bool, at least one in each row.
        limit: [B] largest distance.

    Returns:
        [B, N] index of the leader; a leader's own, whatever the limit; -1 for none.
    """
    index, counts = compact(leader)
    places = torch.arange(vectors.shape[1], device=vectors.device)
    real = (places[: index.shape[1]] < counts[:, None])[:, None]
    distance = (1 - vectors @ gather(vectors, index).transpose(1, 2)).masked_fill(~real, float("inf"))
    distance = distance.masked_fill((index[:, None] == places[:, None]) & real, float("-inf"))
    nearest = distance.argmin(2)
    near = distance.gather(2, nearest[..., None])[..., 0] <= limit[:, None]
    return index.gather(1, nearest).masked_fill(~(near & valid), -1)
