"""Merging of the tokens that are most alike all others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.graph import cosine


@dataclass(frozen=True)
class Redundant:
    """Redundant tokens, merged into the others.

    Attributes:
        redundancy: [B, N] sum of a token's cosines to all others, in float64.
        sources: [B, N - T] the tokens that are merged away, most redundant first.
        targets: [B, T] the other tokens, most redundant first.
        assignment: [B, N - T] index in ``targets`` of the target of each source.
    """

    redundancy: Tensor
    sources: Tensor
    targets: Tensor
    assignment: Tensor

    @property
    def means(self) -> Tensor:
        """[B, T, N] float64 weights of each target's mean with its sources."""
        size, count = self.redundancy.shape[1], self.targets.shape[1]
        own = F.one_hot(self.targets, size).double()
        joined = F.one_hot(self.assignment, count).transpose(1, 2).double() @ F.one_hot(self.sources, size).double()
        members = own + joined
        return members / members.sum(2, keepdim=True)


def merge_redundant(tokens: Tensor, count: int) -> Redundant:
    """Merge the most redundant tokens of [B, N, d] into the ``count`` others, each into the one with the highest cosine.

    Ties: the lower index first.
    """
    alike = cosine(tokens)
    redundancy = alike.sum(2) - alike.diagonal(dim1=1, dim2=2)
    order = redundancy.argsort(dim=1, descending=True, stable=True)
    away = tokens.shape[1] - count
    sources, targets = order[:, :away], order[:, away:]
    image = torch.arange(len(order), device=order.device)[:, None, None]
    among = alike[image, sources[:, :, None], targets[:, None, :]]
    return Redundant(redundancy, sources, targets, among.argmax(2))


def scattered(weights: Tensor, index: Tensor, size: int) -> Tensor:
    """Weights [B, K, M] over the tokens at ``index`` [B, M] as weights [B, K, size] over all tokens."""
    whole = weights.new_zeros(*weights.shape[:2], size)
    return whole.scatter(2, index[:, None].expand_as(weights), weights)
