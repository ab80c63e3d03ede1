"""The patches whose features have the greatest norm: the simplest choice that reads the features alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class NormTopK(TokenReducer):
    """Keeps the patches whose features at ``place`` have the greatest L2 norm, in raster order.

    It reads neither attention nor text. In a CLIP tower, patches of great norm are often those in which the tower stores global
    information (registers, arXiv 2309.16588), and not those that show something.
    """

    title = "norm top-k"
    control = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` patches per image."""
        kept = top_k(features.double().norm(dim=-1), self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))
