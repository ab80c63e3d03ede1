"""SparseVLM (arXiv 2410.04417; official code Gumpest/SparseVLMs: branch v1.5, commit 734d900; v2.0; first release 91fb6d9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.clusters import density_peaks
from parbench.ops.rating import numerical_rank, raters
from parbench.ops.selection import gather, top_k
from parbench.reducers import Choice, LayerReducer, one_of
from parbench.reducers.budget import at_depth, scaled
from parbench.reducers.layer_probes import View
from parbench.reducers.raters import raters_of
from parbench.reducers.word_kinds import RATERS

# The release is for LLaVA-1.5-7B: this many layers, heads and visual tokens.
_LAYERS, _HEADS, _PATCHES = 32, 32, 576
# Layers whose output the release prunes.
_STAGES = {"1.0": (2, 6, 15, 19), "1.5": (2, 6, 15), "2.0": (2, 6, 15)}
# Tokens that each stage keeps, by the name of the budget in the release.
_COUNTS = {
    "1.5": {192: (300, 200, 110), 128: (303, 110, 36), 64: (66, 30, 17)},
    "2.0": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
_CHOSEN_HEADS = 14
# The release adds this to denominators of means.
_EMPTY = 1e-6


@dataclass
class SparseVLM(LayerReducer):
    """Text tokens that fit the image rate the visual tokens at three layers. The best are kept, and some of the rest are merged.

    Raters are the text tokens after the image whose mean share of the visual tokens' softmaxed similarity (input embeddings) is
    above average. The layer of a stage runs in full, and its output is pruned by the attention in it, mean over heads and
    raters. The best ``recycled`` share of the pruned tokens is clustered (DPC-KNN), and the mean of each cluster follows the kept
    tokens. Version 2.0 divides the attention by the part that rotary positions alone cause, uses the heads with the most of it,
    keeps original position ids and merges nothing.

    Deviations. Layers are scaled to the model's depth (the layer after a pruned output: 3, 7, 16 of 32), and heads like 14 of
    32. The release's lists called 192, 128 and 64 count the pruned layers as already short, so 206 tokens are delivered for 192.
    Here a budget is the true average: the list with the nearest name is scaled by one factor to deliver it. ``counts`` uses any
    list unchanged. With neither, the release's list for 192 is scaled to the number of patches. The paper sums a cluster; the
    release and ours average it. The release adds random noise to densities; ours adds none and prefers the earlier of equal
    tokens. The divisor of version 2.0 stays positive for heads of width 128, as in LLaVA-1.5, but may change sign for narrow heads,
    as in llava-tiny. Several images in a row are treated separately.

    Attributes:
        version: ``1.5``; ``2.0``; or ``1.0``, which keeps ``scale`` tokens per rank of the raters' attention and takes no budget.
        layers: Layers whose output is pruned; None scales the official ones.
        counts: Tokens that each stage keeps, without merged ones.
        heads: Number of heads that version 2.0 uses; None scales the official 14.
        recycled: Share of the pruned tokens that are merged.
        group: Approximate number of tokens merged into one.
        scale: Tokens kept per rank (version 1.0).
        bias: Additional tokens kept (version 1.0).
        raters: The text tokens after the image that rate: ``content`` words of the question, ``stop`` words, the ``template``
            around it, the ``last`` token, or ``all``; for the study in docs/raters.md. None: the
            method's own, those that fit the image.
    """

    title = "SparseVLM"
    paper = "arXiv 2410.04417"
    prompt_aware = True
    reads = (-1,)
    positions: str = "official"
    version: str = "1.5"
    layers: Sequence[int] | None = None
    counts: Sequence[int] | None = None
    heads: int | None = None
    recycled: float = 0.3
    group: int = 10
    scale: float = 13.5
    bias: float = 0.0
    raters: str | None = None

    def __post_init__(self) -> None:
        """Check version, layers and counts."""
        self.version = str(self.version)
        one_of(self, positions=("official", "keep", "compact"), version=tuple(_STAGES), raters=(None, *RATERS))
        self.layers = None if self.layers is None else tuple(self.layers)
        self.counts = None if self.counts is None else tuple(self.counts)
        if self.counts is not None and (len(self.counts) != len(self.layers or _STAGES[self.version]) or min(self.counts) < 1):
            raise ParbenchError(f"method.counts={list(self.counts)} of {self.name}: use one number of at least 1 for each layer")
        if not 0 <= self.recycled <= 0.9 or self.group < 1:
            raise ParbenchError(f"method.recycled={self.recycled}, group={self.group} of {self.name}: use 0 to 0.9, and 1 or more")

    def check(self, geometry: Geometry) -> None:
        """Refuse a budget for version 1.0 and for given counts."""
        if self.asked(geometry) is not None and (self.version == "1.0" or self.counts is not None):
            why = "version 1.0 keeps tokens by rank" if self.version == "1.0" else "method.counts sets the number of tokens"
            raise ParbenchError(f"budget={self.budget} of method {self.name} has no effect, since {why}: leave budget=null")
        super().check(geometry)

    @property
    def compacts(self) -> bool:
        """Whether position ids are renumbered consecutively: up to version 1.5, as in the release."""
        return self.positions == "compact" or (self.positions == "official" and self.version != "2.0")

    @property
    def needs_words(self) -> bool:
        """Whether it needs the kinds of the text tokens: with ``raters``."""
        return self.raters is not None

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The layers after those whose output is pruned."""
        if self.layers is not None:
            return tuple(layer + 1 for layer in self.layers)
        return at_depth([layer + 1 for layer in _STAGES[self.version]], geometry.layers / _LAYERS)

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens after each stage, kept and merged."""
        return self._with_merged(self.kept(geometry), geometry.patches)

    def kept(self, geometry: Geometry) -> tuple[int, ...]:
        """Kept tokens of each stage, without merged ones: ``counts``, or the list that delivers the budget."""
        if self.version == "1.0":
            raise ParbenchError(
                f"version 1.0 of {self.name} keeps a number of tokens that depends on the image: use version 1.5 or 2.0"
            )
        asked, patches = self.asked(geometry), geometry.patches
        known = _COUNTS[self.version]
        if asked is None:
            return tuple(self.counts or (max(1, round(count * patches / _PATCHES)) for count in known[192]))
        nearest = min(known, key=lambda name: abs(name - asked * _PATCHES / patches))
        stages = (*self.stages(geometry), geometry.layers)

        def total(kept: Sequence[int]) -> int:
            left = self._with_merged(kept, patches)
            return patches * stages[0] + sum(n * (stages[i + 1] - stages[i]) for i, n in enumerate(left))

        return scaled(known[nearest], total, asked * geometry.layers, patches)

    def _with_merged(self, kept: Sequence[int], entering: int) -> tuple[int, ...]:
        left = []
        for count in kept:
            pruned = max(0, entering - count)
            entering = entering - pruned + (self._merged(pruned)[1] if pruned else 0)
            left.append(entering)
        return tuple(left)

    def _merged(self, pruned: int) -> tuple[int, int]:
        """Number of ``pruned`` tokens that are merged, and the number of tokens they are merged into."""
        if self.version == "2.0" or not self.recycled:
            return 0, 0
        recycled = int(self.recycled * pruned) + 1
        return recycled, recycled // self.group + 1

    def choose(self, view: View) -> Choice:
        """Rate the tokens, keep the best, merge some of the rest."""
        chosen = raters(*view.inputs) if self.raters is None else raters_of(view, self.raters)
        attention, real = view.text_attention(chosen)
        if self.version == "2.0":
            attention = attention / view.position_bias(chosen)[:, None]
        attention = attention * (real[:, None, :, None] & view.valid[:, None, None])
        if self.version == "2.0":
            count = self.heads if self.heads is not None else max(1, round(_CHOSEN_HEADS * attention.shape[1] / _HEADS))
            best = top_k(attention.sum((2, 3)), count)
            attention = attention.gather(1, best[..., None, None].expand(-1, -1, *attention.shape[2:]))
        attention = attention.mean(1)
        scores = attention.sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        present = view.valid.sum(1)
        if self.version == "1.0":
            rank = numerical_rank(attention, real.sum(1), present)
            kept = torch.minimum((rank.double() * self.scale + self.bias).long(), present - 1)
        else:
            kept = present.clamp(max=self.kept(view.geometry)[view.stage])
        return self.recycle(view, Choice.best(view, scores, kept))

    def recycle(self, view: View, choice: Choice) -> Choice:
        """Merge the best of the pruned tokens."""
        pruned = view.valid & ~choice.keep
        numbers = [self._merged(count) if count else (0, 0) for count in pruned.sum(1).tolist()]
        recycled, clusters = torch.tensor(numbers, device=pruned.device).unbind(1)
        if choice.scores is None or not int(clusters.max()):
            return choice
        order = top_k(choice.scores.masked_fill(~pruned, float("-inf")), int(recycled.max()))
        real = torch.arange(order.shape[1], device=order.device)[None] < recycled[:, None]
        members = density_peaks(gather(view.hidden, order), real, clusters, self.noise(view.stage, order))
        weights = members / (members.sum(2, keepdim=True) + _EMPTY).double()
        merge = weights.new_zeros(*members.shape[:2], pruned.shape[1])
        merge.scatter_add_(2, order[:, None].expand(-1, members.shape[1], -1), weights)
        return Choice(choice.keep, choice.scores, merge, clusters)

    def noise(self, stage: int, order: Tensor) -> Tensor | None:
        """Noise [E, R] float32 added to the densities of the tokens at ``order``; None here. A test overrides it."""
        return None
