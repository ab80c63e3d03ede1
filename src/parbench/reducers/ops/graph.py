"""Graphs over tokens: components, and greedy suppression of what repeats."""

from __future__ import annotations

import torch
from torch import Tensor


def cosine(tokens: Tensor) -> Tensor:
    """Cosine similarity of all pairs: [B, N, d] to [B, N, N] in float64.

    Float64, so that no choice hangs on how a kernel rounds at another batch size.
    """
    unit = torch.nn.functional.normalize(tokens.double(), dim=-1)
    return unit @ unit.transpose(1, 2)


def connected_components(edges: Tensor) -> Tensor:
    """Label of each node's component: the least index in it.

    Labels spread by minimum over neighbours, with pointer jumping, until nothing changes.

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


def suppress(similarity: Tensor, priority: Tensor, alive: Tensor, threshold: float) -> Tensor:
    """Greedy suppression: in order of priority, keep a token if none that is kept is more similar than the threshold.

    Solved for all tokens at once: a token is decided as soon as all its stronger rivals are, which takes as many rounds
    as the longest chain of rivals.

    Args:
        similarity: [B, N, N], symmetric.
        priority: [B, N]; ties go to the lower index.
        alive: [B, N] bool, the tokens that take part.
        threshold: Similarity above which two tokens repeat each other.

    Returns:
        [B, N] bool, the tokens that are kept.
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
