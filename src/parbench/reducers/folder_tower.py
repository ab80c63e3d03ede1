"""FOLDER inside the vision tower (arXiv 2501.02430; official code anakin-skywalker-Joseph/Folder, commit d4750b9)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry
from parbench.ops.matching import Merge, merge_none, merge_rounds
from parbench.reducers import TowerReducer

# Weight of attention relative to cosine similarity at alpha = 1.
_PENALTY = 100.0


@dataclass
class FolderTower(TowerReducer):
    """Folds the tokens of a single vision block, the one whose output LLaVA reads, in as many rounds as the budget needs.

    A round merges tokens at even positions into the most similar ones at odd positions, at most half of all. CLS is never merged.
    Similarity is the cosine of head-mean keys, less 100 ``alpha`` times the attention of CLS to the even token, so that tokens on
    which CLS looks are folded late. Between rounds, a merged token has the size-weighted mean of its keys and the plain mean of
    the attention, and merged tokens follow the others.

    This is the version of most of the paper's figures; ``folder`` is the release's simplified form. The release removes r tokens
    for each of 24 blocks, r = 16 or 18, so that 192 or 144 remain; a budget takes the place of r here. Sequences of less than 40
    tokens are not folded further there, which bounds its budgets; here they are. No output of this version was recorded: ours is
    written from its code and not compared with it.

    Attributes:
        alpha: Weight of the attention of CLS against being folded; 0 ignores it.
    """

    title = "FOLDER in the tower (not compared)"
    paper = "arXiv 2501.02430"
    alpha: float = 5.0

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.alpha < 0:
            raise ParbenchError(f"method.alpha={self.alpha} of {self.name} is negative: use 0 or more")

    @property
    def note(self) -> str:
        """That no recorded output was available."""
        return "not compared with its release, of which no output was recorded"

    def merges(self, geometry: Geometry) -> list[int]:
        """All tokens that go are merged in the last of the blocks up to the one that is read."""
        return [0] * (geometry.read - 1) + [geometry.patches - self.count(geometry)]

    def merge(self, view: BlockView, geometry: Geometry) -> Merge:
        """Fold the tokens of the last block, and leave the others."""
        remove = self.merges(geometry)[view.block]
        if remove == 0:
            return merge_none(view.counts, view.keys.shape[1])
        attention = _PENALTY * self.alpha * view.cls_attention if self.alpha else None
        return merge_rounds(view.metric, view.size, view.counts, remove, attention)
