"""VScan (arXiv 2505.22654; official code Tencent/SelfEvolvingAgent, commit a82450e, folder VScan)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.counts import rank
from parbench.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers import Choice, LayerReducer, Reducer, Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.base import shares
from parbench.reducers.budget import at_depth, falling_counts
from parbench.reducers.composed import Composed
from parbench.reducers.layer_probes import View
from parbench.reducers.token_probes import READ_BLOCK, Probes

# The release's shallow vision block (from 0) of CLIP's 24, and its layer of the 32 of LLaVA-1.5-7B's LLM.
_SHALLOW = 5 / 24
_LAYER, _LAYERS = 16, 32
# Windows along each side of the grid.
_SIDE = 4
# The release's 32 of 96 tokens.
_LEFT = 1 / 3


@dataclass
class Scan(AttendedReducer):
    """The first stage of VScan: patches that CLS attends to in windows and in the whole image; all others are merged into them.

    Half of the budget is shared out evenly among 4 x 4 windows of the grid, to the patches with the highest CLS attention in a
    shallow vision block. The rest goes to the other patches with the highest attention in the block whose output the LLM reads.
    Each patch left over is merged, behind the projector, into the kept one with the most similar direction; a token is the mean
    of its patches. In ``positions=keep`` it has the position id of the first of them. Tokens are in raster order of the kept
    patches.

    Attributes:
        local: Share of the budget for the windows.
        fills: Whether what the windows cannot share out evenly is kept of the whole image. False as in the release: 98 of 100
            tokens.
    """

    title = "VScan, first stage"
    paper = "arXiv 2505.22654"
    needs = frozenset({"cls", "grid"})
    own_within = "part"
    place: str = "after_projector"
    local: float = 0.5
    fills: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, place=("after_projector",))
        shares(self, "local")

    @property
    def exact_budget(self) -> bool:
        """False without ``fills``: then the budget is the most that is kept."""
        return super().exact_budget and self.fills

    def blocks_of(self, geometry: Geometry) -> tuple[int, ...]:
        """The shallow block and the one whose output the LLM reads."""
        return max(0, round(geometry.blocks * _SHALLOW)), READ_BLOCK

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep the chosen patches, and merge the others into them."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        local, whole = self.choose(probes)
        kept, counts = compact(local | whole)
        weights = torch.zeros(*kept.shape, features.shape[1], dtype=torch.float64, device=features.device)
        weights.scatter_(2, kept[..., None], 1.0)
        others, _ = compact(~(local | whole))
        unit = F.normalize(features.double(), dim=-1)
        nearest = (gather(unit, others) @ gather(unit, kept).transpose(1, 2)).argmax(2)
        weights[torch.arange(len(kept), device=kept.device)[:, None], nearest, others] = 1.0
        return Reduction.mix(features, weights / weights.sum(2, keepdim=True), counts)

    def choose(self, probes: Probes) -> tuple[Tensor, Tensor]:
        """The patches of the windows and those of the whole image, [B, N] bool each."""
        geometry = probes.geometry
        budget, sides = self.count(geometry), (geometry.rows, geometry.columns)
        shallow, deep = (probes.saliency(block).mean(1) for block in self.blocks_of(geometry))
        share = int(budget * self.local) // _SIDE**2
        row, column = (torch.arange(n, device=deep.device) * _SIDE // n for n in sides)
        window = (row[:, None] * _SIDE + column).flatten()
        local = torch.zeros_like(deep, dtype=torch.bool)
        for number in range(_SIDE**2):
            inside = window == number
            local |= inside & (rank(shallow.masked_fill(~inside, -1.0)) < share)
        rest = budget - (local[0].sum() if self.fills else int(budget * self.local))
        return local, to_mask(top_k(deep.masked_fill(local, -1.0), int(rest)), deep.shape[1])


@dataclass
class Guided(LayerReducer):
    """The second stage of VScan: before a middle layer of the LLM, keeps what the last prompt token would attend to most in it.

    Ranking uses that layer's input norm, and queries and keys at the positions before the stage; mean over heads, as in
    PyramidDrop.

    Attributes:
        layers: Layers of the stages; None scales the release's 16 of 32 to the model's depth.
        counts: Tokens after each stage; None for a third, a ninth ... of those that enter the LLM. Used without a budget.
    """

    title = "VScan, second stage"
    paper = "arXiv 2505.22654"
    prompt_aware = True
    reads = (0,)
    positions: str = "compact"
    layers: Sequence[int] | None = None
    counts: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Check layers and counts."""
        super().__post_init__()
        if self.counts is not None and len(self.counts) != len(self.layers or (_LAYER,)):
            raise ParbenchError(f"method.counts of {self.name} has {len(self.counts)} entries: use one for each layer")
        if self.counts is not None and (list(self.counts) != sorted(self.counts, reverse=True) or min(self.counts) < 1):
            raise ParbenchError(f"method.counts={list(self.counts)} of {self.name}: use falling numbers of tokens, at least 1")

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The release's layer, scaled to the model's depth, or ``layers``."""
        return at_depth((_LAYER,), geometry.layers / _LAYERS) if self.layers is None else tuple(self.layers)

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Tokens after each stage: ``counts``; with a budget, powers of one ratio, so that the average is the budget."""
        asked, patches, stages = self.asked(geometry), geometry.patches, self.stages(geometry)
        if asked is not None:
            return falling_counts(stages, geometry.layers, patches, asked)
        if self.counts is not None:
            return tuple(min(count, patches) for count in self.counts)
        return tuple(max(1, round(patches * _LEFT ** (number + 1))) for number in range(len(stages)))

    def choose(self, view: View) -> Choice:
        """Keep the tokens to which the last prompt token would attend most in the stage's own layer."""
        return Choice.best(view, view.own_attention.mean(1), self.left(view.geometry)[view.stage])


@dataclass
class VScan(Composed):
    """Scans the image by CLS attention in windows and as a whole, merges the rest, and drops more inside the LLM by the question.

    Before the LLM, half of the tokens are those with the highest CLS attention in 4 x 4 windows in a shallow vision block, half
    those of the whole image in the block whose output the LLM reads; behind the projector every other patch is averaged into
    the most similar kept one. Before the middle layer of the LLM, the tokens to which the last prompt token would attend most
    stay.

    The budget is the average over the layers: 64 is the paper's 96 tokens, of which 32 stay from layer 16 of 32 on; blocks and
    layers are scaled to a model's depth. The release keeps fewer tokens than asked where the windows cannot share out their
    half evenly, and fails below 32; ours fills up with patches of the whole image (``before.fills``). On grids whose sides are no
    multiples of four, windows differ by a row or column. In towers without CLS, ``before.attention=received`` ranks by the
    attention that a patch receives, which is ours.

    Attributes:
        before: The first stage.
        inside: The second stage.
    """

    title = "VScan"
    paper = "arXiv 2505.22654"
    prompt_aware = True
    before: Reducer = field(default_factory=lambda: Scan(name="vscan-scan"), kw_only=True)
    inside: LayerReducer = field(default_factory=lambda: Guided(name="vscan-guided"), kw_only=True)
