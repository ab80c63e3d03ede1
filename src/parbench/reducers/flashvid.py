"""FlashVID before the LLM (arXiv 2602.08024; official code Fanziyang-v/FlashVID, commit 1d37422)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.clusters import clusters_among
from parbench.ops.farthest import farthest_weighted
from parbench.ops.groups import apportion
from parbench.ops.segments import Segment, at_least, between
from parbench.ops.selection import to_mask
from parbench.ops.trees import Trees, grown, joining_limit, nearest_before
from parbench.reducers import ClipReducer
from parbench.reducers.base import from_one, one_of, shares
from parbench.reducers.frames import Frames, Sent, cosines, together
from parbench.reducers.token_probes import READ_BLOCK

# Nearest tokens, itself among them, for the density of a token; fewer if there are fewer clusters.
_NEIGHBOURS = 7


@dataclass
class FlashVid(ClipReducer):
    """Keeps attended and diverse tokens of each frame; joins the others over time to trees, and clusters these within frames.

    A segment ends where a frame differs from the next (cosine of the means of their tokens below ``segment_threshold``), and there
    are at least ``segments``. Of the tokens of each frame, a share ``alpha`` of its budget is selected, one by one: the token
    farthest from those selected, by cosine distance times its attention. In a segment, each other token joins the most similar one
    of the frame before, wherever that is, if their cosine is above ``threshold``; the limit is raised where too few would be left.
    A tree becomes the mean of its tokens, in its first frame. Then the trees of each frame are clustered around dense ones far
    from denser ones (up to 7 neighbours), so that each segment has its budget. A cluster is the mean of its trees, at the place of
    its centre.

    Deviations of the release, which fields bring back for comparison: it divides a tree's sum by one more than the tokens joined
    to its root directly, so that long trees become too large (``divisor=children``; a norm grew fourfold on four nearly equal
    frames); it clusters selected tokens too in segments of one frame, so that a place is sent twice (``repeats``); it rounds the
    numbers of each frame up, so it delivers a little more (``rounding=up``). By default the budget is met exactly here. With fewer
    frames than ``segments``, each is a segment.

    The release lets in 1.25 times its budget, and has a second stage inside the LLM that drops tokens again. That is not part of
    this method, so the budget here is what enters the LLM, and ``expansion`` is 1. It adds noise to densities; without ``noise``
    there is none, and of equal tokens the first counts as denser. Attention is that of CLS, or else the one that a token receives.

    Attributes:
        alpha: Share of selected tokens in the budget of a frame.
        threshold: Cosine above which a token joins another.
        segment_threshold: A smaller cosine of two frames ends a segment.
        segments: Least number of segments.
        expansion: What the budget is multiplied by (1.25 in the release).
        divisor: ``tokens`` or ``children``: what the sum of a tree is divided by.
        rounding: ``budget`` or ``up``: how shares become numbers.
        repeats: Whether a token may be sent twice.
        noise: Seed of the noise in densities, up to 1e-6; null for none.
    """

    title = "FlashVID (before the LLM)"
    paper = "arXiv 2602.08024"
    needs = ClipReducer.needs | {"attention"}
    blocks = (READ_BLOCK,)
    alpha: float = 0.7
    threshold: float = 0.8
    segment_threshold: float = 0.9
    segments: int = 8
    expansion: float = 1.0
    divisor: str = "tokens"
    rounding: str = "budget"
    repeats: bool = False
    noise: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, divisor=("tokens", "children"), rounding=("budget", "up"))
        shares(self, "alpha")
        from_one(self, "segments")
        if self.expansion <= 0:
            raise ParbenchError(f"method.expansion={self.expansion} of {self.name} is not possible: use a number above 0")

    @property
    def exact_budget(self) -> bool:
        """Whether every video keeps exactly the budget; not if numbers are rounded up or expanded."""
        return super().exact_budget and self.rounding == "budget" and self.expansion == 1

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select and merge the tokens."""
        selected, drawn, parts = self.selected(frames), 0, []
        base = torch.arange(frames.count, device=selected.device)[:, None] * frames.size
        parts.append(Sent.unchanged((base + selected).flatten()))
        segments = self.cut(frames)
        for segment, count in zip(segments, self.totals(frames, segments, selected.shape[1]), strict=True):
            trees = self.trees(frames, segment, selected, count)
            for clusters in self.clustered(frames, segment, trees, count, drawn):
                parts.append(clusters)
                drawn += 1
        return together(parts)

    def each(self, frames: Frames) -> float:
        """The budget of a frame."""
        if self.rounding == "up":
            return min(frames.size, math.ceil(frames.size * self.share_of(frames) * self.expansion))
        return min(frames.size, self.tokens_of(frames) * self.expansion / frames.count)

    def cut(self, frames: Frames) -> list[Segment]:
        """The segments of a video."""
        mean = F.normalize(frames.wide.mean(1), dim=-1)
        return between(at_least(cosines(mean[:-1], mean[1:]), self.segment_threshold, self.segments))

    def totals(self, frames: Frames, segments: list[Segment], selected: int) -> list[int]:
        """Clusters of each segment."""
        lengths = [end - begin for begin, end in segments]
        if self.rounding == "up":
            return [(int(self.each(frames)) - selected) * length for length in lengths]
        left = round(self.each(frames) * frames.count) - selected * frames.count
        return apportion(left, lengths, [length * frames.size for length in lengths])

    def selected(self, frames: Frames) -> Tensor:
        """[F, A] places of the selected tokens of each frame, in raster order."""
        each = self.each(frames)
        count = min(math.ceil(each * self.alpha), int(each))
        # [F, i, j]: the distance of j from i, by the attention of j.
        apart = (1 - frames.unit @ frames.unit.transpose(1, 2)) * frames.attention[:, None]
        return farthest_weighted(apart, count).nonzero()[:, 1].view(frames.count, count)

    def trees(self, frames: Frames, segment: Segment, selected: Tensor, clusters: int) -> Trees:
        """The tokens of a segment, joined over time so that no fewer than its budget are left."""
        begin, end = segment
        length, size = end - begin, frames.size
        taken = to_mask(selected[begin:end], size)
        own = torch.arange(length * size, device=taken.device).view(length, size)
        if length == 1:
            left = torch.ones_like(taken) if self.repeats else ~taken
            return Trees(own, torch.ones(own.shape, dtype=torch.float64, device=own.device), left)
        alike, parent = nearest_before(frames.unit[begin:end], taken)
        joined = alike > joining_limit(alike, self.threshold, clusters + selected.shape[1] * length)
        root, share = grown(joined, parent, by_children=self.divisor == "children")
        return Trees(root, share, ~joined & ~taken)

    def clustered(self, frames: Frames, segment: Segment, trees: Trees, total: int, drawn: int) -> Iterator[Sent]:
        """The clusters of each frame of a segment, or its trees where they stay."""
        begin, size = segment[0], frames.size
        values = trees.of(frames.wide[begin : segment[1]])
        left = trees.left.sum(1).tolist()
        for row, (there, count) in enumerate(zip(left, self.counts(left, total), strict=True)):
            if not there or not count:
                continue
            place = trees.left[row].nonzero().flatten()
            if sum(left) <= total:
                centre, member = place, torch.arange(there, device=place.device)
            else:
                noise = frames.noise(self.noise, drawn, there)
                drawn += 1
                centre, member = clusters_among(values[row, place], count, noise, min(_NEIGHBOURS, count))
                centre = place[centre]
            # Which cluster a token of the segment is in: through the tree that it ends in.
            of_root = torch.full((trees.root.numel(),), -1, device=place.device)
            of_root[row * size + place] = member
            token = of_root[trees.root.flatten()]
            patch = (token >= 0).nonzero().flatten()
            token = token[patch]
            weight = trees.share.flatten()[patch] / member.bincount(minlength=len(centre))[token]
            yield Sent.mixed((begin + row) * size + centre, token, begin * size + patch, weight)

    def counts(self, left: list[int], total: int) -> list[int]:
        """Clusters of each frame, from the trees that are left in it."""
        if self.rounding == "up":
            share = total / max(1, sum(left))
            return [math.ceil(count * share) for count in left]
        return apportion(min(total, sum(left)), left, left)
