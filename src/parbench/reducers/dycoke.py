"""DyCoke, its prefill stage (arXiv 2411.15024; official code KD-TAO/DyCoke, commit dd74634)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.groups import apportion
from parbench.ops.selection import top_k
from parbench.reducers import ClipReducer
from parbench.reducers.frames import Frames, Sent, cosines

# Frames are reduced in groups of four: the first is whole, and the others are compared with one before.
_GROUP = 4


@dataclass
class DyCoke(ClipReducer):
    """Keeps every fourth frame of a video whole, and of the others the tokens that differ most from an earlier frame.

    In each group of four frames, the second is compared with the first and the fourth with the third, place by place; then the
    third with the first. All comparisons are of original tokens. A compared frame keeps the tokens with the smallest cosine. The
    third frame of the last group stays whole, as in the release: of 12 frames 4 are whole, and of 8 frames 3.

    Without a budget, a compared frame keeps int((1 - drop) x N) tokens, as in the release. With ``drop=0.7`` that is 53 % of the
    tokens of 12 frames, and not 30 %. With a budget, compared frames share what is left of it equally; one that the whole frames
    alone exceed is refused.

    The release sends the tokens of a compared frame by ascending cosine; here they are in raster order. It loses the last of an
    odd number of frames without a word, and fails with 4 frames or fewer; here that frame is whole, and there is only the first
    comparison. Its second stage, which prunes the KV cache while decoding, is not part of this method.

    Attributes:
        drop: Share of the tokens of a compared frame that is dropped, if there is no budget (``dycoke_k``).
    """

    title = "DyCoke (prefill)"
    paper = "arXiv 2411.15024"
    adaptive = True
    drop: float = 0.7

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if not 0 <= self.drop < 1:
            raise ParbenchError(f"method.drop={self.drop} of {self.name} is not a share: use a number from 0 to less than 1")

    def least(self, frames: int, size: int) -> int:
        """The tokens of the frames that are whole."""
        return (frames - len(_pairs(frames))) * size

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select the tokens."""
        return Sent.unchanged(torch.cat(self.choose(frames)))

    def choose(self, frames: Frames) -> list[Tensor]:
        """Indices of the kept tokens of each frame, those of a compared frame by ascending cosine."""
        compared = self.similarity(frames)
        counts = dict(zip(sorted(compared), self.counts(frames, len(compared)), strict=True))
        found = []
        for frame in range(frames.count):
            if frame in compared:
                place = top_k(-compared[frame], counts[frame])
            else:
                place = torch.arange(frames.size, device=frames.tokens.device)
            found.append(frame * frames.size + place)
        return found

    @staticmethod
    def similarity(frames: Frames) -> dict[int, Tensor]:
        """For each frame that is compared, the cosine [N] of its tokens and those of the earlier frame."""
        return {frame: cosines(frames.unit[frame], frames.unit[first]) for frame, first in _pairs(frames.count).items()}

    def counts(self, frames: Frames, compared: int) -> list[int]:
        """Tokens to keep of each compared frame."""
        if self.budget is None:
            return [int((1 - self.drop) * frames.size)] * compared
        left = self.tokens_of(frames) - (frames.count - compared) * frames.size
        return apportion(left, [1] * compared, [frames.size] * compared)


def _pairs(frames: int) -> dict[int, int]:
    """For each frame that is compared, the earlier one with which it is."""
    second = {first + 1: first for first in range(0, frames - 1, 2)}
    return second | {first + 2: first for first in range(0, frames - _GROUP, _GROUP)}
