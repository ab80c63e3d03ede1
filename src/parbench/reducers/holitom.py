"""HoliTom, its first stage (arXiv 2505.21334; official code cokeshao/HoliTom, commit e9b2972)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.ops.clusters import peaks_among
from parbench.ops.groups import apportion
from parbench.ops.segments import Segment, most_static
from parbench.ops.selection import top_k
from parbench.reducers import ClipReducer
from parbench.reducers.base import from_one, one_of, shares
from parbench.reducers.frames import Frames, Sent, together
from parbench.reducers.token_probes import READ_BLOCK

# Nearest tokens, itself among them, for the density of a token; fewer if there are fewer clusters.
_NEIGHBOURS = 7


@dataclass(frozen=True)
class Window:
    """Frames that belong together.

    Attributes:
        begin: Its first frame.
        end: The frame behind its last.
        static: [m] places that do not change within it, in raster order; none in a single frame.
        moving: [n] the other places.
    """

    begin: int
    end: int
    static: Tensor
    moving: Tensor

    @property
    def frames(self) -> range:
        """Its frames."""
        return range(self.begin, self.end)

    @property
    def sizes(self) -> list[int]:
        """Tokens that are left when static places are shared: those of static places, then those of each frame."""
        return [len(self.static), *[len(self.moving)] * (self.end - self.begin)]


@dataclass
class HoliTom(ClipReducer):
    """Averages what does not change over time, clusters the averages, and keeps the most attended of all other tokens.

    A place is static from a frame to the next if the cosine of its tokens is above ``threshold``. Dynamic programming cuts the
    video into windows in which shared static places save most tokens. In each window, static places become their means over time,
    which are clustered around dense ones far from denser ones (7 neighbours). A cluster is ``mix`` x centre + (1 - ``mix``) x mean
    of its other members, at the place of the centre in the window's first frame. Of the other places, each frame keeps the tokens
    with the highest attention. All groups keep the same share of their tokens, so that the budget is met.

    In the release the number of each frame is rounded up, and that of clusters to the nearest, so it delivers a little more
    (``rounding=up``). By default the budget is met exactly here, by largest remainders. Where sharing static places alone leaves
    fewer tokens than the budget, these are sent, unclustered: the budget is an upper bound. Tokens are sent by place; the release
    sends the clusters of a window in front of its frames. In its version for LLaVA-Video it sorts them by place too, with newlines
    of that model.

    The release has an option D for clusters of places that change, which ends in an error, so it is left out; and a second stage
    inside the LLM, which is not part of this method. It adds noise to densities; without ``noise`` there is none, and of equal
    tokens the first counts as denser. Attention is that of CLS, or else the one that a token receives.

    Attributes:
        threshold: Cosine above which a place is static (``T``; 0.65 in the release's scripts for a tenth of the tokens).
        mix: Weight of a centre in its cluster (``BETA``).
        window: Maximum frames of a window.
        rounding: ``budget`` or ``up``: how the share of a group becomes a number.
        noise: Seed of the noise in densities, up to 1e-6; null for none.
    """

    title = "HoliTom (first stage)"
    paper = "arXiv 2505.21334"
    needs = ClipReducer.needs | {"attention"}
    blocks = (READ_BLOCK,)
    threshold: float = 0.8
    mix: float = 0.6
    window: int = 1024
    rounding: str = "budget"
    noise: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, rounding=("budget", "up"))
        shares(self, "mix")
        from_one(self, "window")

    @property
    def exact_budget(self) -> bool:
        """Whether every video keeps exactly the budget: not if little changes in it."""
        return False

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select and merge the tokens."""
        return together(list(self.pieces(frames)))

    def windows(self, frames: Frames) -> tuple[list[Window], int]:
        """The windows of a video, and how many tokens sharing static places saves."""
        static = frames.same_place > self.threshold
        segments, saved = most_static(static, self.window)
        return [_window(segment, static, frames.size) for segment in segments], saved

    def counts(self, frames: Frames, windows: list[Window], saved: int) -> list[list[int]]:
        """For each window, the number of clusters, then the tokens that each frame keeps."""
        total, sizes = frames.count * frames.size, [window.sizes for window in windows]
        if self.rounding == "up":
            share = min(self.share_of(frames) / ((total - saved) / total), 1)
            return [[round(size[0] * share), *(math.ceil(count * share) for count in size[1:])] for size in sizes]
        flat = [count for size in sizes for count in size]
        found = iter(apportion(min(self.tokens_of(frames), sum(flat)), flat, flat))
        return [[next(found) for _ in size] for size in sizes]

    def pieces(self, frames: Frames) -> Iterator[Sent]:
        """The tokens of each window: its clusters, then those of each frame in raster order."""
        windows, saved = self.windows(frames)
        drawn = 0
        for window, (clusters, *kept) in zip(windows, self.counts(frames, windows, saved), strict=True):
            if clusters:
                noise = frames.noise(self.noise, drawn, len(window.static))
                drawn += 1
                yield self.clusters(frames, window, clusters, noise)
            for frame, count in zip(window.frames, kept, strict=True):
                best = top_k(frames.attention[frame, window.moving], count).sort().values
                yield Sent.unchanged(frame * frames.size + window.moving[best])

    def clusters(self, frames: Frames, window: Window, count: int, noise: Tensor | None) -> Sent:
        """The clusters of a window's static places, in raster order of their centres."""
        mean = frames.wide[window.begin : window.end, window.static].mean(0)
        centre, nearest = self.clustered(mean, count, noise)
        places, device = len(window.static), mean.device
        others = torch.ones(places, dtype=torch.bool, device=device).index_fill(0, centre, False).nonzero().flatten()
        joined = nearest[others]
        size = joined.bincount(minlength=count).double()
        own = torch.where(size > 0, torch.full_like(size, self.mix), torch.ones_like(size))
        token = torch.cat([torch.arange(count, device=device), joined])
        place = window.static[torch.cat([centre, others])]
        weight = torch.cat([own, ((1 - own) / size)[joined]])
        # Each static place is the mean of the window's frames.
        base = torch.tensor(window.frames, device=device)[:, None] * frames.size
        length = len(base)
        patch = (base + place).flatten()
        return Sent.mixed(
            window.begin * frames.size + window.static[centre], token.repeat(length), patch, weight.repeat(length) / length
        )

    @staticmethod
    def clustered(mean: Tensor, count: int, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """[count] centres of tokens [m, d] in raster order, and [m] the number of the nearest centre of each."""
        centre, apart = peaks_among(mean, count, noise, min(_NEIGHBOURS, count))
        ordered = centre.sort().values
        return ordered, apart[:, ordered].argmin(1)


def _window(segment: Segment, static: Tensor, size: int) -> Window:
    begin, end = segment
    same = torch.zeros(size, dtype=torch.bool, device=static.device) if end - begin == 1 else static[begin : end - 1].all(0)
    return Window(begin, end, same.nonzero().flatten(), (~same).nonzero().flatten())
