"""Clustering of tokens by k-means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.farthest import apart, spread
from parbench.ops.selection import gather


def k_means(tokens: Tensor, clusters: int, rounds: int) -> Tensor:
    """Lloyd's algorithm from centres chosen by farthest-point sampling, without empty clusters.

    A token joins the nearest centre; ties: the earlier centre. A cluster that became empty gets the token farthest from its own
    centre, of those that are not alone in their cluster; ties: the lower index.

    Args:
        tokens: [B, N, d].
        clusters: Number of clusters, at most N.
        rounds: Rounds of assignment, at least 1.

    Returns:
        [B, clusters, N] bool, the members of each cluster. Every token is in one, and none is empty.
    """
    wide = tokens.double()
    start = spread(wide, clusters)
    centres = gather(wide, start)
    owner = start
    for _ in range(rounds):
        distance = apart(wide, centres)
        owner = torch.stack([_without_empty(row, clusters) for row in distance])
        members = F.one_hot(owner, clusters).transpose(1, 2).double()
        centres = members @ wide / members.sum(2, keepdim=True)
    return F.one_hot(owner, clusters).transpose(1, 2).bool()


def nested_centres(points: Tensor, sizes: Sequence[int], rounds: int, generator: torch.Generator) -> Tensor:
    """Centres of which the first few are centres too: more are added in steps, and those that are there stay.

    New centres are drawn from the points in proportion to the squared distance to the nearest centre, and then moved by Lloyd's
    algorithm.

    Args:
        points: [P, d].
        sizes: Numbers of centres after each step, ascending.
        rounds: Rounds of Lloyd's algorithm in each step.
        generator: Source of randomness.

    Returns:
        [sizes[-1], d].
    """
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    for size in sizes:
        fixed = len(centres) if size != sizes[0] else 0
        while len(centres) < size:
            odds = torch.cdist(points, centres).amin(1).square()
            centres = torch.cat([centres, points[torch.multinomial(odds, 1, generator=generator)]])
        for _ in range(rounds):
            owner = torch.cdist(points, centres).argmin(1)
            count = torch.bincount(owner, minlength=size)[:, None]
            means = torch.zeros_like(centres).index_add(0, owner, points) / count.clamp(min=1)
            moved = (count > 0) & (torch.arange(size)[:, None] >= fixed)
            centres = torch.where(moved, means, centres)
    return centres


def _without_empty(distance: Tensor, clusters: int) -> Tensor:
    """The cluster [N] of each token by its distances [N, clusters] to the centres, each with at least one member."""
    owner = distance.argmin(1)
    sizes = torch.bincount(owner, minlength=clusters)
    for cluster in (sizes == 0).nonzero().flatten().tolist():
        from_own = distance.gather(1, owner[:, None])[:, 0]
        token = from_own.masked_fill(sizes[owner] < 2, float("-inf")).argmax()
        sizes[owner[token]] -= 1
        owner[token], sizes[cluster] = cluster, 1
    return owner
