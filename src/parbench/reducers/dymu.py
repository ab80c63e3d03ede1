"""DyMU's dynamic token merging, DToMe (arXiv 2504.17040; official code MikeWangWZHL/dymu, commit c57d75a)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry
from parbench.ops.matching import Merge, bipartite, merge_first
from parbench.reducers import TowerReducer


@dataclass
class DyMU(TowerReducer):
    """ToMe with a similarity threshold instead of a fixed number: a block merges every pair above it, so images differ in length.

    Calibration: paper and release merge a fixed share of all pairs of a batch of images, block by block, and average the
    thresholds over batches. Ours treats all calibration images as one batch, so their mean is exactly the budget. The release
    calibrates and merges in all blocks; ours only in those that LLaVA's features depend on. Where attention is not fused, the
    release adds log size after the softmax; ours always adds it before, like ToMe.

    The LLM gets the merged tokens in raster order, which saves attention too. The paper's virtual unmerging is an option. The
    LLM then attends over the un-merged sequence: every patch is at its original position, with the query, key and value of its
    token, and the output is averaged over the patches of a token. Norms and linear layers run on merged tokens. Ours expands the
    inputs of attention, as the release does by default, so attention and KV cache cost as much as without reduction. The release
    also has the exact factored form, which saves FLOPs and which its authors call much slower; ours does not.

    With thresholds per image, at which each image keeps exactly the budget, the method would be ToMe.

    Attributes:
        thresholds: Similarity above which a pair is merged: one per block, or one number for all. None: calibrated for this
            model, data and budget.
        unmerge: Virtual unmerging. Position ids are then the original ones, whatever ``positions`` is.
    """

    title = "DyMU (DToMe)"
    paper = "arXiv 2504.17040"
    adaptive = True
    calibrates = "thresholds"
    uncalibrated = ("unmerge",)
    thresholds: list[float] | float | None = None
    unmerge: bool = False

    def __post_init__(self) -> None:
        """Check that the thresholds are similarities."""
        super().__post_init__()
        found = [] if self.thresholds is None else self.thresholds
        values = found if isinstance(found, list) else [found]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise ParbenchError(
                f"method.thresholds={self.thresholds} of {self.name} is not a list of similarities: use numbers from -1 to 1, one "
                f"per block"
            )

    @property
    def exact_budget(self) -> bool:
        """False: the budget is a mean over images."""
        return False

    @property
    def unmerges(self) -> bool:
        """Whether the LLM attends over the un-merged sequence: the field ``unmerge``."""
        return self.unmerge

    @property
    def note(self) -> str:
        """With unmerging, attention and KV cache save nothing."""
        return "tokens of the linear layers; attention and KV cache have the full length" if self.unmerge else ""

    def check(self, geometry: Geometry) -> None:
        """Refuse a list of another length than the blocks, and budgets below what halving in every block leaves."""
        if self.asked(geometry) is not None:
            self.even(geometry)
        if isinstance(self.thresholds, list) and len(self.thresholds) not in (geometry.read, geometry.blocks):
            raise ParbenchError(
                f"method.thresholds of {self.name} has {len(self.thresholds)} numbers: this model needs {geometry.read}, one for "
                f"each vision block that its features depend on"
            )

    def merges(self, geometry: Geometry) -> list[int]:
        """Tokens to be merged per block on average, which calibration aims at."""
        return self.even(geometry)

    def merge(self, view: BlockView, geometry: Geometry) -> Merge:
        """Merge the pairs above the block's threshold."""
        if self.thresholds is None:
            raise ParbenchError(
                f"{self.name} has no thresholds: set method.thresholds, or give a budget that is calibrated for this model"
            )
        bar = self.thresholds[view.block] if isinstance(self.thresholds, list) else self.thresholds
        edges = bipartite(view.metric, view.counts)
        return merge_first(edges, (edges.score > bar).sum(1), view.counts, view.keys.shape[1])
