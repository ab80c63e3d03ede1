"""Similarity graphs over tokens: clusters, and suppression of redundant tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.ops.selection import to_mask, top_k


def cosine(tokens: Tensor) -> Tensor:
    """Cosine similarity of all pairs: [B, N, d] to [B, N, N] in float64.

    In float64, so that selections do not depend on rounding at another batch size.
    """
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1)
    return unit @ unit.transpose(1, 2)


def link(similarity: Tensor, kind: str, level: float, neighbours: int) -> Tensor:
    """Edges of a similarity graph.

    Args:
        similarity: [B, N, N], symmetric.
        kind: ``threshold``: similarity of at least ``level``; ``quantile``: at least the image's ``level`` quantile of all pairs;
            ``neighbours``: each is among the other's ``neighbours`` most similar ones.
        level: See ``kind``.
        neighbours: See ``kind``.

    Returns:
        [B, N, N] bool, symmetric; each node is joined to itself.
    """
    size = similarity.shape[1]
    own = torch.eye(size, dtype=torch.bool, device=similarity.device)
    if kind == "neighbours":
        others = similarity.masked_fill(own, float("-inf"))
        nearest = top_k(others, min(neighbours, size - 1))
        joined = torch.zeros_like(similarity, dtype=torch.bool).scatter(2, nearest, True)
    elif kind == "quantile":
        pairs = similarity[:, *torch.triu_indices(size, size, offset=1, device=similarity.device)]
        joined = similarity >= pairs.quantile(level, dim=1)[:, None, None]
    else:
        joined = similarity >= level
    # Symmetrise: the two triangles may be rounded differently. Each node stays joined to itself.
    return (joined & joined.transpose(1, 2)) | own


def connected_components(edges: Tensor) -> Tensor:
    """Label of each node's component: the smallest index in it.

    Labels are propagated by the minimum over neighbours, with pointer jumping, until nothing changes.

    Args:
        edges: [B, N, N] bool, symmetric.

    Returns:
        [B, N] int64.
    """
    size = edges.shape[1]
    labels = torch.arange(size, device=edges.device).expand(edges.shape[0], -1)
    while True:
        near = torch.where(edges, labels[:, None, :], size).amin(dim=2)
        spread = torch.minimum(labels, near)
        spread = torch.minimum(spread, spread.gather(1, spread))
        if torch.equal(spread, labels):
            return labels
        labels = spread


def propagate_labels(edges: Tensor, rounds: int = 20) -> Tensor:
    """Communities by label propagation: every node takes the most frequent label of its neighbours, including itself.

    Ties go to the lower label, and all nodes are updated at once, so the result is unique. Oscillating graphs are stopped after
    ``rounds`` rounds. Labels are then renamed to the smallest node that has them.

    Args:
        edges: [B, N, N] bool, symmetric, each node joined to itself.
        rounds: Maximum number of rounds.

    Returns:
        [B, N] int64.
    """
    batch, size = edges.shape[:2]
    weights = edges.float()
    labels = torch.arange(size, device=edges.device).expand(batch, -1)
    for _ in range(rounds):
        votes = weights @ torch.nn.functional.one_hot(labels, size).float()
        # argmax does not specify which of equal values it returns.
        best = votes.amax(2, keepdim=True)
        found = torch.where(votes == best, torch.arange(size, device=edges.device), size).amin(2)
        if torch.equal(found, labels):
            break
        labels = found
    return first_member(labels)


def follow_leaders(similarity: Tensor, priority: Tensor, level: float) -> Tensor:
    """Greedy leaders: in order of priority, a node similar to no leader becomes one. All nodes join their most similar leader.

    Args:
        similarity: [B, N, N], symmetric.
        priority: [B, N].
        level: Minimum similarity of a node to its leader.

    Returns:
        [B, N] int64 labels: the smallest member of each cluster.
    """
    alive = torch.ones_like(priority, dtype=torch.bool)
    leaders = suppress(similarity, priority, alive, level)
    nearest = top_k(similarity.masked_fill(~leaders[:, None, :], float("-inf")), 1)[..., 0]
    own = torch.arange(priority.shape[1], device=priority.device)
    return first_member(torch.where(leaders, own, nearest))


def first_member(labels: Tensor) -> Tensor:
    """Labels [B, N], renamed to the smallest node that has them."""
    size = labels.shape[1]
    own = torch.arange(size, device=labels.device).expand_as(labels)
    least = torch.full_like(labels, size).scatter_reduce(1, labels, own, "amin")
    return least.gather(1, labels)


def uncrowded(similarity: Tensor, priority: Tensor, alive: Tensor, threshold: float, crowd: int) -> Tensor:
    """The ``alive`` tokens with fewer than ``crowd`` others above the similarity threshold, [B, N] bool, without an order.

    If none would remain, the one with the highest priority is kept.
    """
    own = torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
    near = (similarity > threshold) & ~own & alive[:, None, :] & alive[:, :, None]
    left = alive & (near.sum(2) < crowd)
    best = to_mask(top_k(priority.masked_fill(~alive, float("-inf")), 1), alive.shape[1])
    return torch.where(left.any(1, keepdim=True), left, best)


def partition(
    similarity: Tensor, priority: Tensor, how: str, edges: str, level: float, neighbours: int, near: Tensor | None = None
) -> Tensor:
    """Cluster labels [B, N], the smallest member of each cluster, by ``components``, ``labels`` or ``leaders``.

    Of the edges, only those between tokens that are ``near`` each other, [N, N] bool, count; None: all.
    """
    if how == "leaders":
        return follow_leaders(similarity, priority, level)
    joined = link(similarity, edges, level, neighbours)
    if near is not None:
        joined = joined & near
    return connected_components(joined) if how == "components" else propagate_labels(joined)


def representatives(labels: Tensor, priority: Tensor, alive: Tensor, count: int) -> Tensor:
    """The ``count`` ``alive`` tokens with the highest priority of each label, [B, N] bool; ties: the lower index first."""
    rank = priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    rivals = (labels[:, :, None] == labels[:, None, :]) & (rank[:, None, :] < rank[:, :, None]) & alive[:, None, :]
    return alive & (rivals.sum(2) < count)


def suppress(similarity: Tensor, priority: Tensor, alive: Tensor, threshold: float) -> Tensor:
    """Greedy suppression: in order of priority, keep a token if its similarity to all kept ones is at most the threshold.

    Solved for all tokens at once: a token is decided as soon as all similar tokens of higher priority are. The number of rounds
    is the length of the longest chain of such tokens.

    Args:
        similarity: [B, N, N], symmetric.
        priority: [B, N]; ties: the lower index first.
        alive: [B, N] bool, the tokens to consider.
        threshold: Similarity above which two tokens are redundant.

    Returns:
        [B, N] bool, the kept tokens.
    """
    rank = priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    stronger = rank[:, None, :] < rank[:, :, None]
    rivals = (similarity > threshold) & stronger & alive[:, None, :] & alive[:, :, None]
    kept = torch.zeros_like(alive)
    undecided = alive.clone()
    while bool(undecided.any()):
        beaten = (rivals & kept[:, None, :]).any(dim=2)
        contested = (rivals & undecided[:, None, :]).any(dim=2)
        winners = undecided & ~beaten & ~contested
        kept |= winners
        undecided &= ~(winners | beaten)
    return kept


def absorb(similarity: Tensor, share: Tensor, kept: Tensor) -> Tensor:
    """Weights that merge every token into its most similar kept token; ties: the lower index.

    Args:
        similarity: [B, N, N].
        share: [B, N] weight of each token; 0 for tokens that are not merged.
        kept: [B, N] bool.

    Returns:
        [B, N, N] float64: row i has the weights of the token kept at i, with sum 1; other rows are 0.
    """
    nearest = top_k(similarity.masked_fill(~kept[:, None, :], float("-inf")), 1)[..., 0]
    own = torch.arange(kept.shape[1], device=kept.device).expand_as(nearest)
    target = torch.where(kept, own, nearest)
    weights = torch.nn.functional.one_hot(target, kept.shape[1]).transpose(1, 2) * share.double()[:, None, :]
    return weights / weights.sum(2, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
