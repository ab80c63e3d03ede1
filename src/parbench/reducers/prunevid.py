"""PruneVid, its first stage (arXiv 2412.16117; official code Visual-AI/PruneVid, commit b12600c)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.clusters import clusters_among
from parbench.ops.groups import apportion
from parbench.ops.segments import Segment, runs, without_short_runs
from parbench.reducers import ClipReducer
from parbench.reducers.frames import Frames, Sent, together

# Nearest tokens, itself among them, for the density of a token; fewer if there are fewer tokens.
_NEIGHBOURS = 7
# Without a budget, groups of no more tokens than this are left alone.
_FEW = 2 * _NEIGHBOURS


@dataclass(frozen=True)
class Group:
    """Tokens that are clustered together.

    Attributes:
        members: [n, L] the tokens of the clip, as indices, whose mean each of them is.
        window: Number of its window.
        static: Whether they are means over the frames of the window.
    """

    members: Tensor
    window: int
    static: bool


@dataclass
class PruneVid(ClipReducer):
    """Averages what does not change over time, then clusters both the averages and the tokens of each frame.

    Frames are clustered by their means into ``segment_share`` x F clusters (density peaks with 7 neighbours), and runs of frames
    of one cluster are windows; runs shorter than the longest of their cluster join a neighbour. In a window, a place is static if
    the mean cosine of its tokens in all pairs of frames is above ``threshold``. Static places become their means over time. The
    means, and the other tokens of each frame, are clustered around dense ones far from denser ones, each group by itself. A
    cluster is the mean of its members: of all original tokens, as static places of a window are means of equally many.

    Without a budget a group of more than 14 gives int(``cluster_share`` x n) clusters and a smaller one stays, as in the release;
    the number of tokens then depends on the video. With a budget all groups share it in proportion to their sizes. Where sharing
    static places alone leaves fewer tokens, these are sent: the budget is an upper bound.

    Tokens are sent by the place of the first token in them. The release sends those of a window group by group, clusters by
    descending score. It fails with fewer than 7 frames; here a density then has as many neighbours as there are frames. It adds
    noise to densities; without ``noise`` there is none, and of equal tokens the first counts as denser. Its second stage inside
    the LLM, which depends on the question, is not part of this method. The release is under CC BY-NC-SA; this is written from a
    description.

    Attributes:
        threshold: Mean cosine above which a place is static (``tau``).
        segment_share: Clusters of frames, as a share of the frames.
        cluster_share: Clusters of a group, as a share of its tokens, if there is no budget.
        noise: Seed of the noise in densities, up to 1e-6; null for none.
    """

    title = "PruneVid (first stage)"
    paper = "arXiv 2412.16117"
    adaptive = True
    threshold: float = 0.8
    segment_share: float = 0.25
    cluster_share: float = 0.5
    noise: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        for name in ("segment_share", "cluster_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ParbenchError(
                    f"method.{name}={getattr(self, name)} of {self.name} is not possible: use a number above 0 and at most 1"
                )

    @property
    def exact_budget(self) -> bool:
        """Whether every video keeps exactly the budget: not if little changes in it."""
        return False

    def reduce_clip(self, frames: Frames) -> Sent:
        """Merge the tokens."""
        return together(list(self.merged(frames)))

    def labels(self, frames: Frames) -> list[int]:
        """The cluster of each frame."""
        count = max(1, int(frames.count * self.segment_share))
        _, member = clusters_among(frames.wide.mean(1), count, frames.noise(self.noise, 0, frames.count), _NEIGHBOURS)
        found: list[int] = member.tolist()
        return found

    def windows(self, frames: Frames) -> list[Segment]:
        """The windows of a video."""
        return runs(without_short_runs(self.labels(frames)))

    def groups(self, frames: Frames) -> Iterator[Group]:
        """The groups of each window: its static places, then the other tokens of each frame. Empty ones are left out."""
        for number, (begin, end) in enumerate(self.windows(frames)):
            static = self.static(frames.unit[begin:end])
            base = torch.arange(begin, end, device=static.device)[:, None] * frames.size
            still, moving = static.nonzero().flatten(), (~static).nonzero().flatten()
            if len(still):
                yield Group((base + still).T, number, static=True)
            if len(moving):
                yield from (Group(row[:, None], number, static=False) for row in base + moving)

    def static(self, unit: Tensor) -> Tensor:
        """[N] bool, the static places of a window of L frames, from its tokens [L, N, d] of length 1; none in a single frame."""
        length = len(unit)
        if length == 1:
            return torch.zeros(unit.shape[1], dtype=torch.bool, device=unit.device)
        # The sum over all pairs, without those of a frame and itself.
        pairs = unit.sum(0).square().sum(-1) - unit.square().sum((0, 2))
        return pairs / (length * (length - 1)) > self.threshold

    def counts(self, frames: Frames, groups: list[Group]) -> list[int]:
        """Clusters of each group; its size if its tokens stay."""
        sizes = [len(group.members) for group in groups]
        if self.budget is None:
            return [int(size * self.cluster_share) if size > _FEW else size for size in sizes]
        return apportion(min(self.tokens_of(frames), sum(sizes)), sizes, sizes)

    def merged(self, frames: Frames) -> Iterator[Sent]:
        """The tokens of each group, clusters in descending order of their centres' score."""
        groups, flat, drawn = list(self.groups(frames)), frames.wide.flatten(0, 1), 1
        for group, count in zip(groups, self.counts(frames, groups), strict=True):
            size, length = group.members.shape
            if count == 0:
                continue
            if count == size:
                token = torch.arange(size, device=flat.device)
            else:
                mean = flat[group.members].mean(1)
                _, token = clusters_among(mean, count, frames.noise(self.noise, drawn, size), _NEIGHBOURS)
                drawn += 1
            sizes = token.bincount(minlength=count).double() * length
            first = torch.full((count,), frames.count * frames.size, device=flat.device)
            place = first.scatter_reduce(0, token, group.members[:, 0], "amin")
            yield Sent.mixed(
                place, token.repeat_interleave(length), group.members.flatten(), (1 / sizes)[token].repeat_interleave(length)
            )
