"""Patches that are far from each other, by farthest-point sampling."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.farthest import apart, farthest_points
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
        wide = features.double()
        first = (wide - wide.mean(1, keepdim=True)).norm(dim=-1).argmax(1, keepdim=True)
        kept = farthest_points(apart(wide), self.count(probes.geometry), first)
        return Reduction.select(features, to_mask(kept, features.shape[1]))
