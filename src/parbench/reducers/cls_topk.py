"""The patches that CLS attends to most: the baseline of most attention-based methods."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes


@dataclass
class ClsTopK(AttendedReducer):
    """Keeps the ``budget`` patches with the highest CLS attention, mean over heads, in the block whose output LLaVA reads."""

    title = "CLS top-k"
    control = True
    blocks = (READ_BLOCK,)

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        return Reduction.select(features, self.choose(self.count(probes.geometry), probes))

    @staticmethod
    def choose(count: int, probes: Probes) -> Tensor:
        """[B, N] bool, the ``count`` patches with the highest attention."""
        attention = probes.saliency(READ_BLOCK).mean(1)
        return to_mask(top_k(attention, count), attention.shape[1])
