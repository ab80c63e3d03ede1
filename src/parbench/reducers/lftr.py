"""LFTR, approximated (arXiv 2501.17391, of which only the abstracts were available)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.grid import neighbour_mean
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Lftr(TokenReducer):
    """Keeps the patches that stand out from their surroundings on the grid; an approximation of the spatial half.

    The first versions of the paper reduce video tokens without training, in time (similar adjacent tokens are merged) and in
    space (tokens of low saliency are pruned). The third, "LFTR: Learning-Free Token Reduction for Multimodal Large Language
    Models", is about models for images. Neither formulas nor code of any version were available, so the temporal half is left out:
    of a video, each frame is pruned alone. The saliency of the spatial half is our own: the cosine distance of a patch to the mean
    direction of its neighbours. Results of this method are not results of that paper.

    Attributes:
        radius: Neighbours are the patches at most that many rows and columns away.
    """

    title = "LFTR (approximation)"
    needs = frozenset({"grid"})
    own_within = "part"
    paper = "arXiv 2501.17391"
    radius: int = 1

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.radius < 1:
            raise ParbenchError(f"method.radius={self.radius} of {self.name} leaves no neighbours: use 1 or more")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` salient patches in raster order."""
        kept = top_k(self.saliency(features, probes.encoded.grid), self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))

    def saliency(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """Saliency [B, N] in float64; 0 if a patch has the direction of its surroundings."""
        unit = F.normalize(features.double(), dim=-1)
        around = F.normalize(neighbour_mean(unit, grid, self.radius), dim=-1)
        return 1 - torch.einsum("bnd,bnd->bn", unit, around)
