"""Means of clusters of similar patches, by k-means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.kmeans import k_means
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class KMeans(TokenReducer):
    """Sends the mean of each cluster of similar patches: what merging is worth without attention, text or any rule of its own.

    Clusters are those of k-means (Lloyd's algorithm) on the features at ``place``, as many as the budget. It starts from
    farthest-point sampling, so nothing is random. No cluster is empty, so the budget is exact. Tokens are in the order of the first
    patch of their clusters, and ``positions=keep`` gives them the position id of that patch.

    Attributes:
        rounds: Rounds of assigning patches to the nearest mean and computing the means anew.
    """

    title = "k-means means"
    control = True
    rounds: int = 10

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.rounds < 1:
            raise ParbenchError(f"method.rounds={self.rounds} of {self.name} is impossible: use at least 1 round")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Average the patches of ``budget`` clusters per image."""
        batch, size, _ = features.shape
        count = self.count(probes.geometry)
        if count == size:
            return Reduction.everything(features)
        members = k_means(features, count, self.rounds)
        order = members.double().argmax(2).argsort(dim=1)
        members = members.gather(1, order[:, :, None].expand(-1, -1, size)).double()
        weights = members / members.sum(2, keepdim=True)
        return Reduction.mix(features, weights, torch.full((batch,), count, device=features.device))
