"""The patches that CLS attends to most, and one token for all others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.remainder import kept_and_mean
from parbench.reducers import Reduction
from parbench.reducers.cls_topk import ClsTopK
from parbench.reducers.token_probes import Probes


@dataclass
class ClsTopKMean(ClsTopK):
    """CLS top-k with one token fewer, and the plain mean of all other patches appended in its place."""

    title = "CLS top-k + mean"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select in raster order, append the mean."""
        count = self.count(probes.geometry)
        if count == features.shape[1]:
            return super().reduce(features, probes)
        return Reduction.mix(features, *kept_and_mean(self.choose(count - 1, probes)))
