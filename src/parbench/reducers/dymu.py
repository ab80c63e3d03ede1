"""DyMU's dynamic token merging, DToMe (arXiv 2504.17040; official code MikeWangWZHL/dymu, commit c57d75a)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.matching import Merge, bipartite, merge_first
from parbench.reducers import TowerReducer


@dataclass
class DyMU(TowerReducer):
    """ToMe with a threshold instead of a number: a block merges every pair that is more similar, so that images differ in length.

    Paper and release find a block's threshold by merging a fixed share of all pairs of a batch of images, block by block, and
    averaging over batches; ours takes all calibration images as one batch, so that the budget is their exact mean. The release
    calibrates and merges in all blocks; ours only in those that LLaVA's features depend on. It adds log size after the softmax
    where attention is not fused; ours always before, as ToMe.

    The LLM gets the merged tokens, in raster order, and so saves in attention too. The paper's virtual unmerging is an option:
    attention then has every patch again, at its original position and with the query, key and value of the token that it is in,
    and what it gives is averaged over a token's patches; norms and linear layers run on merged tokens. Ours expands what
    attention is given and so spends attention and cache as without reduction; the exact factored form is not here.

    Thresholds of each image's own, at which it keeps exactly the budget, would make it ToMe.

    Attributes:
        thresholds: Similarity above which a pair is merged: one for each block, or one number for all; None: calibrated
            for this model, data and budget.
        unmerge: Virtual unmerging; positions are then the original ones, whatever ``positions`` says.
    """

    title = "DyMU (DToMe)"
    paper = "arXiv 2504.17040"
    adaptive = True
    calibrates = "thresholds"
    uncalibrated = ("unmerge",)
    thresholds: list[float] | float | None = None
    unmerge: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no similarity."""
        super().__post_init__()
        found = [] if self.thresholds is None else self.thresholds
        values = found if isinstance(found, list) else [found]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise ParbenchError(
                f"method.thresholds={self.thresholds} of {self.name} is no list of similarities: use numbers from -1 to 1, one "
                f"a block"
            )

    @property
    def exact_budget(self) -> bool:
        """The budget is a mean over images."""
        return False

    @property
    def unmerges(self) -> bool:
        """As the field says."""
        return self.unmerge

    @property
    def note(self) -> str:
        """With unmerging, attention saves nothing."""
        return "tokens that linear layers run on; attention and cache have the full length" if self.unmerge else ""

    def check(self, geometry: Geometry) -> None:
        """Refuse a list for another depth, and budgets below what halving in every block leaves."""
        if self.asked(geometry) is not None:
            self.even(geometry)
        if isinstance(self.thresholds, list) and len(self.thresholds) not in (geometry.read, geometry.blocks):
            raise ParbenchError(
                f"method.thresholds of {self.name} has {len(self.thresholds)} numbers: the model wants {geometry.read}, one for "
                f"each "
                "vision block that its features depend on"
            )

    def merges(self, geometry: Geometry) -> list[int]:
        """What calibration aims at, on average."""
        return self.even(geometry)

    def merge(self, block: int, metric: Tensor, counts: Tensor, geometry: Geometry) -> Merge:
        """The pairs above the block's threshold."""
        if self.thresholds is None:
            raise ParbenchError(
                f"{self.name} has no thresholds: set method.thresholds, or give a budget that is calibrated for this model"
            )
        bar = self.thresholds[block] if isinstance(self.thresholds, list) else self.thresholds
        edges = bipartite(metric, counts)
        return merge_first(edges, (edges.score > bar).sum(1), counts, metric.shape[1])
