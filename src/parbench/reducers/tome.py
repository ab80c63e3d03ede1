"""ToMe, token merging (arXiv 2210.09461; official code facebookresearch/ToMe, commit af95e4b)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry
from parbench.ops.matching import Merge, bipartite, capped_merges, merge_first, merge_none
from parbench.reducers import TowerReducer


@dataclass
class ToMe(TowerReducer):
    """In each vision block, merges the r even tokens that are most similar to an odd one into it, by cosine of head-mean keys.

    As in the official code, CLS is never merged away, a block merges at most half of its tokens, and the next block pairs tokens
    in the order after merging. The release merges in all blocks of a classifier; ours only in those that LLaVA's features depend
    on. The paper has one r for all blocks. A budget is met exactly: blocks merge equally many tokens, the first blocks one more
    if necessary, and the other blocks take over what a block cannot merge.

    Attributes:
        r: Tokens merged in each block; used without a budget.
    """

    title = "ToMe"
    paper = "arXiv 2210.09461"
    r: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.r is not None and self.r < 0:
            raise ParbenchError(f"method.r={self.r} of {self.name} is not a number of tokens to merge: use 0 or more")

    def check(self, geometry: Geometry) -> None:
        """Refuse budgets below what halving in every block leaves."""
        self.merges(geometry)

    def merges(self, geometry: Geometry) -> list[int]:
        """Tokens to merge in each block, by the budget or ``r``."""
        if self.asked(geometry) is None and self.r is not None:
            return capped_merges(geometry.patches + 1, [self.r] * geometry.read)
        return self.even(geometry)

    def merge(self, view: BlockView, geometry: Geometry) -> Merge:
        """Merge the most similar pairs of the block."""
        number, counts, length = self.merges(geometry)[view.block], view.counts, view.keys.shape[1]
        if number == 0:
            return merge_none(counts, length)
        return merge_first(bipartite(view.metric, counts), torch.full_like(counts, number), counts, length)
