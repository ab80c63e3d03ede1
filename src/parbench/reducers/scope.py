"""SCOPE (arXiv 2510.24214; official code kinredon/SCOPE, commit 6bf7306)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.coverage import greedy_coverage
from parbench.ops.graph import cosine
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes


@dataclass
class Scope(AttendedReducer):
    """Keeps patches that are attended to and that cover the others: greedy coverage, weighted by attention.

    A patch is covered by the chosen patch of the greatest cosine with it, of features before the projector; negative cosines do not
    count. Each step takes the patch whose added coverage of all patches, times its CLS attention to the power of ``alpha``, is
    greatest. Attention is that of the block whose output LLaVA reads, sum over heads. Kept tokens are in raster order; CLS is not
    sent.

    The release also adds attention to coverage instead of multiplying (``COMBINED``), which is not implemented. With ``alpha=0``,
    late gains of patches that are each other's nearest tie exactly; here the lower index is taken. As in the release, each crop of
    LLaVA-NeXT is reduced by itself. In families whose features cannot be read in front of the connector, cosines are those of
    tokens behind it. In towers without CLS, ``attention=received`` weights by the attention that a patch receives, which is ours.

    Attributes:
        alpha: Exponent of attention; 0 for coverage alone.
    """

    title = "SCOPE"
    paper = "arXiv 2510.24214"
    own_within = "part"
    blocks = (READ_BLOCK,)
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.alpha < 0:
            raise ParbenchError(f"method.alpha={self.alpha} of {self.name} prefers what CLS ignores: use 0 or more")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        return Reduction.select(features, to_mask(self.choose(probes), features.shape[1]))

    def choose(self, probes: Probes) -> Tensor:
        """[B, budget] selected patches, in the order of selection."""
        weight = probes.saliency(READ_BLOCK).sum(1) ** self.alpha
        return greedy_coverage(cosine(probes.encoded.features), self.count(probes.geometry), weight)
