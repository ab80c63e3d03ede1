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
    """CLS top-k with one patch fewer; the mean of all other patches is appended instead."""

    title = "CLS top-k + mean"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order, and append the mean of the others."""
        count = self.count(probes.geometry)
        if count == features.shape[1]:
            return super().reduce(features, probes)
        return Reduction.mix(features, *kept_and_mean(self.choose(count - 1, probes)))
