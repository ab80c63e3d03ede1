"""Patches that are far from each other, by farthest-point sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.farthest import spread
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Farthest(TokenReducer):
    """Keeps a subset in which every patch is far from the others, in raster order.

    Farthest-point sampling in the space of the features at ``place``, with Euclidean distance: first the patch farthest from the
    mean of all, then in turn the one farthest from those that are chosen. DivPrune does the same with cosine distance between
    projected patches and another first pick, so the difference between the two shows what these choices are worth.
    """

    title = "farthest points"
    control = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` patches per image."""
        return Reduction.select(features, to_mask(spread(features, self.count(probes.geometry)), features.shape[1]))
