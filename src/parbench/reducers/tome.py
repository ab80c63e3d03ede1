"""ToMe, token merging (arXiv 2210.09461; official code facebookresearch/ToMe, commit af95e4b)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.matching import Merge, bipartite, capped_merges, merge_first, merge_none
from parbench.reducers import TowerReducer


@dataclass
class ToMe(TowerReducer):
    """In each vision block, merges the r even tokens that are most like an odd one into it, by cosine of head-mean keys.

    CLS is never merged away, a block merges at most half of its tokens, and the next block pairs tokens in the order that
    merging left, all as officially. The release merges in all blocks of a classifier; ours only in those that LLaVA's
    features depend on. The paper has one r for all blocks; a budget is met exactly, by the r that is nearest: the first
    blocks merge one more where it does not come out even, and what a block cannot merge falls to the others.

    Attributes:
        r: Tokens merged in each block, used when there is no budget.
    """

    title = "ToMe"
    paper = "arXiv 2210.09461"
    r: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if self.r is not None and self.r < 0:
            raise ParbenchError(f"method.r={self.r} of {self.name} is no number of tokens to merge: use 0 or more")

    def check(self, geometry: Geometry) -> None:
        """Refuse budgets below what halving in every block leaves."""
        self.merges(geometry)

    def merges(self, geometry: Geometry) -> list[int]:
        """As ``r`` or the budget has it."""
        if self.asked(geometry) is None and self.r is not None:
            return capped_merges(geometry.patches + 1, [self.r] * geometry.read)
        return self.even(geometry)

    def merge(self, block: int, metric: Tensor, counts: Tensor, geometry: Geometry) -> Merge:
        """The block's number of most similar pairs."""
        number = self.merges(geometry)[block]
        if number == 0:
            return merge_none(counts, metric.shape[1])
        edges = bipartite(metric, counts)
        return merge_first(edges, torch.full_like(counts, number), counts, metric.shape[1])
