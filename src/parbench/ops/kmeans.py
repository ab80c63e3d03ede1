"""Clustering of tokens by k-means."""

from __future__ import annotations

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
