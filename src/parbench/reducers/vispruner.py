"""VisPruner (arXiv 2412.01818; official code anonymous-4869/VisPruner, commit d01c757)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.graph import cosine
from parbench.ops.pairing import thin_by_halves
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes


@dataclass
class VisPruner(TokenReducer):
    """Keeps patches of high CLS attention, and of the others those that repeat one another least.

    Attention is that of the block whose output LLaVA reads, mean over heads. The rest, by descending attention, is thinned:
    it is split by even and odd places, and the even ones most similar to an odd one go, a few a round. Similarity is the
    cosine of features before the projector. Kept tokens come in raster order.

    The diverse part hangs on the order of nearly equal similarities: a change in the last digit of the features may change
    most of it. The newer release fails where the rest is of odd length; here the even places then have one more.

    Attributes:
        important: Share of the budget that goes by attention, rounded down.
        step: Patches dropped in a round.
    """

    title = "VisPruner"
    paper = "arXiv 2412.01818"
    blocks = (READ_BLOCK,)
    important: float = 0.5
    step: int = 8

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if not 0 <= self.important <= 1:
            raise ParbenchError(f"method.important={self.important} of {self.name} is no share: use 0 to 1")
        if self.step < 1:
            raise ParbenchError(f"method.step={self.step} of {self.name} never ends: use 1 or more")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select."""
        important, diverse = self.choose(probes)
        return Reduction.select(features, to_mask(torch.cat([important, diverse], dim=1), features.shape[1]))

    def choose(self, probes: Probes) -> tuple[Tensor, Tensor]:
        """Important patches by descending attention, and diverse ones as the thinning leaves them; [B, *] each."""
        budget = self.count(probes.geometry)
        order = top_k(probes.cls_attention(READ_BLOCK).mean(1)[:, 1:], probes.encoded.features.shape[1])
        important, rest = order.tensor_split([int(budget * self.important)], dim=1)
        diverse = budget - important.shape[1]
        if diverse == 0:
            return important, rest[:, :0]
        return important, thin_by_halves(cosine(probes.encoded.features), rest, diverse, self.step)
