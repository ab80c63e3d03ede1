"""DivPrune (arXiv 2503.02175; official code vbdi/divprune, commit 799e2d9)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.farthest import farthest_points
from parbench.ops.graph import cosine
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class DivPrune(TokenReducer):
    """Keeps a diverse set of patches by greedy max-min selection.

    Distance is 1 - cosine between projected patches, as the LLM would get them. Neither attention nor text is used. The first
    pick is the patch farthest from its nearest neighbour. Kept tokens are in raster order. The official code selects for the
    first sample of a batch and applies that to all; ours selects for each sample. Its default ratio is 0.098 (56 of 576
    tokens); ours is the budget of 64 at which methods are compared.
    """

    title = "DivPrune"
    paper = "arXiv 2503.02175"
    place: str = "after_projector"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        return Reduction.select(features, to_mask(self.choose(features, probes), features.shape[1]))

    def choose(self, features: Tensor, probes: Probes) -> Tensor:
        """[B, budget] selected patches, in the order of selection."""
        patches = features if self.place == "after_projector" else probes.llm_patches
        return farthest_points(1 - cosine(patches), self.count(probes.geometry))
