"""FastVID (arXiv 2503.11187; official code LunarShen/FastVID, commit a40a109, its version for LLaVA-OneVision)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.clusters import peaks
from parbench.ops.segments import Segment, between, cuts
from parbench.ops.selection import gather, to_mask, top_k
from parbench.reducers import ClipReducer
from parbench.reducers.base import from_one, one_of, shares
from parbench.reducers.frames import Frames, Sent, cosines, together
from parbench.reducers.token_probes import READ_BLOCK

# Nearest tokens, itself among them, for the density of a token.
_NEIGHBOURS = 4


@dataclass(frozen=True)
class Chosen:
    """What is chosen of a video.

    Attributes:
        segments: Its segments.
        salient: [F, s] places with the highest attention of each frame, in descending order.
        rest: [F, N-s] the other places, in raster order.
        centres: For each frame that is an anchor, its centres as indices of ``rest``, in descending order of their score.
        context: Averages that each frame contributes to its segment.
    """

    segments: list[Segment]
    salient: Tensor
    rest: Tensor
    centres: dict[int, Tensor]
    context: int


@dataclass
class FastVid(ClipReducer):
    """Keeps the most attended tokens of each frame, and averages the others around dense ones in some frames of each segment.

    A segment ends where a frame differs from the next: cosine of their vectors below ``threshold``, or among the ``segments`` - 1
    smallest. Each frame gets the same share of the budget. Of it, ``context`` is for averages, and for the rest it keeps the
    tokens with the highest attention. In a segment, the last frame and every ``stride``-th before it are anchors, which share the
    averages of all its frames equally. Centres are the anchor's best other tokens by density times distance to a denser one, with
    4 neighbours. All other tokens of the segment join the most similar centre of each anchor, so one token is in several averages.
    A frame that is a segment of its own has only its own tokens in them. An average is ``mix`` x centre + (1 - ``mix``) x mean of
    its members, the centre among them, at the place of the centre.

    What rounding leaves of the budget (equal shares of frames, and of anchors) is lost in the release (``remainder=lost``). By
    default it is met exactly here: by tokens of the video with the next highest attention, unchanged. The release fails with fewer
    frames than ``segments``, and with a budget that leaves no averages; here there are then as many segments as frames, or no
    averages.

    The release uses the attention of SigLIP's pooling head, which the families here do not have, and the head's output as a
    frame's vector. Here it is the attention of CLS, or else the attention that a token receives, and the mean of a frame's tokens.
    The release adds noise to densities; without ``noise`` there is none, and of equal tokens the first counts as denser. Its
    versions for other models differ.

    Attributes:
        segments: Least number of segments (``c``).
        threshold: A smaller cosine of two frames ends a segment (``tau``).
        context: Share of averages (``d``).
        stride: Frames from an anchor to the next (``p``).
        mix: Weight of a centre in its average (``beta``).
        remainder: ``shared`` or ``lost``: what happens to tokens that rounding leaves.
        noise: Seed of the noise in densities, up to 1e-6; null for none.
    """

    title = "FastVID"
    paper = "arXiv 2503.11187"
    needs = ClipReducer.needs | {"attention"}
    blocks = (READ_BLOCK,)
    segments: int = 8
    threshold: float = 0.9
    context: float = 0.4
    stride: int = 4
    mix: float = 0.6
    remainder: str = "shared"
    noise: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, remainder=("shared", "lost"))
        shares(self, "context", "mix")
        from_one(self, "segments", "stride")

    @property
    def exact_budget(self) -> bool:
        """Whether every video keeps exactly the budget; not if a remainder is lost."""
        return super().exact_budget and self.remainder == "shared"

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select and merge the tokens."""
        chosen = self.choose(frames)
        frame = torch.arange(frames.count, device=chosen.salient.device)[:, None]
        parts = [Sent.unchanged((frame * frames.size + chosen.salient).flatten()), *self.averages(frames, chosen)]
        sent = together(parts)
        if self.remainder == "shared":
            taken = to_mask(sent.place[None], frames.count * frames.size)[0]
            left = frames.attention.flatten().masked_fill(taken, float("-inf"))
            sent = together([sent, Sent.unchanged(top_k(left, self.tokens_of(frames) - len(sent.place)))])
        return sent

    def choose(self, frames: Frames) -> Chosen:
        """Segments, salient tokens and centres."""
        each = self.tokens_of(frames) // frames.count
        context = int(each * self.context)
        order = frames.attention.argsort(dim=1, descending=True, stable=True)
        salient, rest = order[:, : each - context], order[:, each - context :].sort(dim=1).values
        segments = between(cuts(self.similarity(frames), self.threshold, self.segments))
        wanted = {anchor: count for segment in segments for anchor, count in self.anchors(segment, context, rest.shape[1])}
        return Chosen(segments, salient, rest, self.centres(frames, rest, wanted) if context else {}, context)

    @staticmethod
    def similarity(frames: Frames) -> Tensor:
        """[F-1] cosine of the vectors of a frame and the next."""
        unit = F.normalize(frames.vectors, dim=1)
        return cosines(unit[:-1], unit[1:])

    def anchors(self, segment: Segment, context: int, most: int) -> Iterator[tuple[int, int]]:
        """The anchors of a segment with the number of their centres, at most ``most``."""
        begin, end = segment
        anchors = range(end - 1, begin - 1, -self.stride)
        return ((anchor, min(most, context * (end - begin) // len(anchors))) for anchor in anchors)

    def centres(self, frames: Frames, rest: Tensor, wanted: dict[int, int]) -> dict[int, Tensor]:
        """The centres of each anchor, as indices of ``rest``."""
        anchors = sorted(wanted)
        given = self.noise_of(frames, rest.shape[1])
        counts = torch.tensor([wanted[anchor] for anchor in anchors], device=rest.device)
        tokens = gather(frames.wide[anchors], rest[anchors])
        everything = torch.ones(tokens.shape[:2], dtype=torch.bool, device=rest.device)
        found, _ = peaks(tokens, everything, counts, None if given is None else given[anchors], _NEIGHBOURS)
        return {anchor: row[: wanted[anchor]] for anchor, row in zip(anchors, found, strict=True)}

    def noise_of(self, frames: Frames, count: int) -> Tensor | None:
        """[F, count] noise for the densities of all frames."""
        found = frames.noise(self.noise, 0, frames.count * count)
        return None if found is None else 1e-6 * found.view(frames.count, count)

    def averages(self, frames: Frames, chosen: Chosen) -> Iterator[Sent]:
        """The averages of each anchor."""
        base = torch.arange(frames.count, device=chosen.rest.device)[:, None] * frames.size
        others, unit = base + chosen.rest, frames.unit.flatten(0, 1)
        for begin, end in chosen.segments:
            for anchor in sorted(set(range(begin, end)) & set(chosen.centres)):
                centre = others[anchor, chosen.centres[anchor]]
                # Of a single frame, and where each frame is an anchor.
                alone = len(centre) == chosen.context
                pool = others[anchor] if alone else others[begin:end].flatten()
                member = (unit[pool] @ unit[centre].T).argmax(1)
                size = member.bincount(minlength=len(centre)).double()
                own = (1 / (size + 1)).clamp(min=self.mix)
                weights = torch.cat([own, ((1 - own) / size)[member]])
                token = torch.cat([torch.arange(len(centre), device=member.device), member])
                yield Sent.mixed(centre, token, torch.cat([centre, pool]), weights)
