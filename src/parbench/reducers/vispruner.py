"""VisPruner (arXiv 2412.01818; official code anonymous-4869/VisPruner, commit d01c757)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.graph import cosine
from parbench.ops.pairing import thin_by_halves
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.base import shares
from parbench.reducers.token_probes import READ_BLOCK, Probes


@dataclass
class VisPruner(AttendedReducer):
    """Keeps patches with high CLS attention, and a diverse selection of the others.

    Attention is that of the block whose output LLaVA reads, mean over heads. The other patches, by descending attention, are
    thinned out in rounds: they are split into even and odd positions, and the even ones that are most similar to an odd one are
    dropped. Similarity is the cosine of features before the projector. Kept tokens are in raster order.

    The diverse part depends on the order of nearly equal similarities: a change in the last digit of the features may change
    most of it. The newer release fails if the number of other patches is odd; here there is then one more even position. In towers
    without CLS, its authors rank by the attention that a patch receives (``attention=received``). In other families than LLaVA-1.5
    similarity is that of tokens behind the connector.

    Attributes:
        important: Share of the budget that is selected by attention, rounded down.
        step: Patches dropped per round.
    """

    title = "VisPruner"
    paper = "arXiv 2412.01818"
    blocks = (READ_BLOCK,)
    important: float = 0.5
    step: int = 8

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        shares(self, "important")
        if self.step < 1:
            raise ParbenchError(f"method.step={self.step} of {self.name} drops nothing: use 1 or more")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        important, diverse = self.choose(probes)
        return Reduction.select(features, to_mask(torch.cat([important, diverse], dim=1), features.shape[1]))

    def choose(self, probes: Probes) -> tuple[Tensor, Tensor]:
        """Important patches by descending attention, and diverse patches in the order after thinning; [B, *] each."""
        budget = self.count(probes.geometry)
        order = top_k(probes.saliency(READ_BLOCK).mean(1), probes.encoded.features.shape[1])
        important, rest = order.tensor_split([int(budget * self.important)], dim=1)
        diverse = budget - important.shape[1]
        if diverse == 0:
            return important, rest[:, :0]
        return important, thin_by_halves(cosine(probes.encoded.features), rest, diverse, self.step)
