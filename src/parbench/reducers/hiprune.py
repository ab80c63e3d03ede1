"""HiPrune (arXiv 2508.00553; official code Danielement321/HiPrune, commit 6e83a12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.counts import rank
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.base import shares
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Anchors of each five tokens; with its neighbours an anchor takes up to five.
_CROSS = 5
# The release's object layers: 9 of CLIP's 24, and 16 of 32 in the tower of Qwen2.5-VL, which has no CLS.
_OBJECT_WITH_CLS, _OBJECT_WITHOUT = 9 / 24, 16 / 32


class Chosen(NamedTuple):
    """What HiPrune keeps.

    Attributes:
        anchors: [B, S] by descending attention.
        around: [B, N] bool, anchors and their neighbours.
        kept: [B, N] bool, all that is kept.
    """

    anchors: Tensor
    around: Tensor
    kept: Tensor


@dataclass
class HiPrune(TokenReducer):
    """Keeps anchors of a middle vision block with their neighbours, and registers of a late one, by the attention received.

    The attention that a token receives is the mean over heads and over all queries, CLS among them. Anchors are the
    round(budget x ``alpha`` / 5) tokens that receive most in the object layer. Each is kept with its four neighbours on the grid.
    As in the release, left and right wrap to the next row, and beyond the upper or lower edge lies the first or the last token.
    The rest of the budget goes to the registers: the other tokens that receive most in the block whose output LLaVA reads. Kept
    tokens are in raster order.

    The object layer of the release is 9 of 24 with CLS (LLaVA) and 16 of 32 without (Qwen2.5-VL); other depths use the same share
    of their blocks. In Qwen2.5-VL both blocks attend to the whole image, the late one is the last, and the attention of a token is
    the mean over its patches; if the object layer attends within windows, the nearest one that does not takes its place. Each crop
    of LLaVA-NeXT is reduced by itself, as in the release, which gives all crops the same number of tokens. A crop whose share is
    too small for its anchors with their neighbours, as ``alpha`` near 1 may want, gets as many as fit; the release fails there.

    Attributes:
        alpha: Share of the budget for anchors and their neighbours.
        object_layer: The layer of the anchors, counted from 1; None for the release's, scaled to the tower's depth.
        repeats: True as in the release for Qwen2.5-VL: 1 is subtracted from the attention of anchors and neighbours, summed over
            queries, instead of leaving them out. A register that is one of them is then kept once, and fewer tokens than the budget
            remain. False: they are left out.
    """

    title = "HiPrune"
    paper = "arXiv 2508.00553"
    needs = frozenset({"attention", "grid"})
    own_within = "part"
    alpha: float = 0.1
    object_layer: int | None = None
    repeats: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        shares(self, "alpha")

    @property
    def exact_budget(self) -> bool:
        """False with ``repeats``: then the budget is the most that is kept."""
        return super().exact_budget and not self.repeats

    def check(self, geometry: Geometry) -> None:
        """Also refuse a layer that the tower has not, and more anchors than the budget holds."""
        super().check(geometry)
        if self.object_layer is not None and not 1 <= self.object_layer <= geometry.blocks:
            raise ParbenchError(
                f"method.object_layer={self.object_layer} of {self.name} is none of the tower's layers: use 1 to {geometry.blocks}"
            )
        budget = self.count(geometry)
        if budget < geometry.patches and (anchors := self._wanted(budget)) * _CROSS > budget:
            raise ParbenchError(
                f"budget={budget} of method {self.name} is too small for {anchors} anchors with four neighbours each: use a "
                f"smaller method.alpha than {self.alpha:g}, or a budget of {anchors * _CROSS}"
            )

    def blocks_of(self, geometry: Geometry) -> tuple[int, ...]:
        """The block of the anchors and that of the registers."""
        return self.object_block(geometry), READ_BLOCK

    def object_block(self, geometry: Geometry) -> int:
        """The block of the anchors, counted from 0."""
        share = _OBJECT_WITH_CLS if "cls" in geometry.offers else _OBJECT_WITHOUT
        return (self.object_layer or max(1, round(geometry.blocks * share))) - 1

    def anchors_of(self, budget: int) -> int:
        """The number of anchors in a budget: as many as wanted, and at most so many as fit with their neighbours."""
        return min(self._wanted(budget), budget // _CROSS)

    def _wanted(self, budget: int) -> int:
        return round(budget * self.alpha / _CROSS)

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the tokens, in raster order."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        return Reduction.select(features, self.choose(probes).kept)

    def choose(self, probes: Probes) -> Chosen:
        """The anchors, their neighbours, and all kept tokens."""
        geometry = probes.geometry
        budget, size = self.count(geometry), geometry.patches
        anchors = top_k(probes.received(self.object_block(geometry)).mean(1), self.anchors_of(budget))
        steps = torch.tensor([0, -1, 1, -geometry.columns, geometry.columns], device=anchors.device)
        around = to_mask((anchors[..., None] + steps).clamp(0, size - 1).flatten(1), size)
        late = probes.received(READ_BLOCK).mean(1)
        if not self.repeats:
            return Chosen(anchors, around, to_mask(top_k(late.masked_fill(around, float("inf")), budget), size))
        summed = late * probes.encoded.lengths[:, :1] - around.double()
        return Chosen(anchors, around, around | (rank(summed) < budget - around.sum(1, keepdim=True)))
