"""VidCom2 (arXiv 2505.14454; official code xuyang-liu16/VidCom2, commit 944a17d, and vLLM's port in wheel 0.33.0)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.counting import add_flops
from parbench.ops.counts import rank
from parbench.ops.selection import to_mask
from parbench.reducers import ClipReducer, one_of
from parbench.reducers.frames import Frames, Sent

_WIDTHS = (1 / 8, 1 / 4, 1 / 2, 1, 2)
_TEMPERATURE = 0.01


@dataclass
class VidCom2(ClipReducer):
    """Keeps the least typical tokens of each frame, and more of frames that differ from the rest of the video.

    Tokens are compared in the half of their channels that vary least over the video, scaled to length 1. How typical a token is of
    something is a sum of five Gaussian kernels, of widths 1/8 to 2, of its distance to the mean: of the video, and of its frame.
    Frames whose tokens are less typical of the video get a larger share, by a softmax with temperature 0.01: nearly all of what
    is above the average goes to the most distinct frames. Within a frame, the tokens whose two sums together are smallest stay.

    The release rounds the number of each frame, at least 1, so the total is only nearly the budget, and less where a share is cut
    at the whole frame (``rounding=frames``). vLLM's port then makes the total exact: it drops the most typical of the kept tokens
    of the video, or adds the least typical of the others. That is the default here, with the budget of the other methods. In
    ``rounding=down`` the total is the port's own, rounded down, and at least one for each frame.

    LLaVA-Video's newlines, of which the release sends all, do not occur in the families here.

    Attributes:
        rounding: ``budget``: the total is the budget. ``down``: it is that of vLLM's port. ``frames``: it follows from the frames.
    """

    title = "VidCom2"
    paper = "arXiv 2505.14454"
    rounding: str = "budget"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, rounding=("budget", "down", "frames"))

    @property
    def exact_budget(self) -> bool:
        """Whether every video keeps exactly the budget."""
        return super().exact_budget and self.rounding == "budget"

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select the tokens."""
        return Sent.unchanged(self.choose(frames).flatten().nonzero().flatten())

    def choose(self, frames: Frames) -> Tensor:
        """[F, N] bool, the kept tokens."""
        video, frame = self.typical(frames)
        typical = video + frame
        keep = rank(-typical) < self.counts(video, self.share_of(frames))[:, None]
        if self.rounding == "frames":
            return keep
        # The least typical first, and kept tokens before the others.
        order = typical.flatten().argsort(stable=True)
        order = order[keep.flatten()[order].logical_not().byte().argsort(stable=True)]
        return to_mask(order[None, : self.total(frames)], keep.numel()).view_as(keep)

    def total(self, frames: Frames) -> int:
        """Tokens to keep of a video, where their number is fixed."""
        if self.rounding == "down":
            return max(frames.count, int(frames.count * frames.size * self.share_of(frames)))
        return self.tokens_of(frames)

    @staticmethod
    def counts(video: Tensor, share: float) -> Tensor:
        """[F] tokens of each frame, from how typical each token is of the video [F, N] and the average share of a frame."""
        distinct = -video.mean(1)
        extra = ((distinct - distinct.max()) / _TEMPERATURE).softmax(0)
        rates = (share * (1 + extra - extra.mean())).clamp(max=1)
        return (rates * video.shape[1]).round().long().clamp(1, video.shape[1])

    @staticmethod
    def typical(frames: Frames) -> tuple[Tensor, Tensor]:
        """How typical each token is of the video and of its frame, [F, N] each in float64."""
        flat = frames.wide.flatten(0, 1)
        channels = flat.var(0, correction=0).argsort(stable=True)[: max(1, flat.shape[1] // 2)]
        unit = F.normalize(frames.wide[..., channels], dim=-1)
        return _near(unit, unit.mean((0, 1), keepdim=True)), _near(unit, unit.mean(1, keepdim=True))


def _near(tokens: Tensor, mean: Tensor) -> Tensor:
    """[F, N] the sum of the kernels of the distances of tokens [F, N, d] to a mean."""
    add_flops(2 * tokens.numel())
    apart = (tokens - mean).square().sum(-1)
    return torch.stack([(-apart / (2 * width)).exp() for width in _WIDTHS]).sum(0)
