"""Fewer frames: a baseline for methods that compare frames."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.ops.grid import evenly, spaced
from parbench.ops.groups import apportion
from parbench.reducers import ClipReducer
from parbench.reducers.base import from_one
from parbench.reducers.frames import Frames, Sent


@dataclass
class FewFrames(ClipReducer):
    """Keeps evenly spaced frames of a video, and drops the others whole.

    By default these are as few frames as have room for the budget: every n-th frame with all its tokens, if the budget is a
    multiple of the tokens of a frame. With ``frames`` it is that many frames. Kept frames share the budget equally, and each keeps
    a uniform grid of its tokens, or evenly spaced ones if their number forms no grid.

    Attributes:
        frames: Number of frames; null for as few as possible.
    """

    title = "few frames"
    control = True
    free = True
    frames: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        from_one(self, "frames", otherwise=", or null")

    def out_of_reach(self, frames: int, size: int, asked: int | None) -> str:
        """Also a budget that does not fit into the frames that are kept."""
        room = frames if self.frames is None else min(self.frames, frames)
        # A budget of all tokens keeps them.
        if asked is not None and room * size < asked < frames * size:
            return (
                f"budget={self.written_budget} of method {self.name} does not fit into method.frames={self.frames}: frames of this "
                f"video have {size} tokens, so use {-(-asked // size)} frames or more"
            )
        return super().out_of_reach(frames, size, asked)

    def reduce_clip(self, frames: Frames) -> Sent:
        """Select the tokens."""
        budget = self.tokens_of(frames)
        count = -(-budget // frames.size) if self.frames is None else min(self.frames, frames.count)
        # More frames than tokens would leave some empty.
        count = min(count, budget)
        kept = spaced(count, frames.count).tolist()
        shares = apportion(budget, [1] * count, [frames.size] * count)
        index = [frame * frames.size + evenly(share, frames.grid) for frame, share in zip(kept, shares, strict=True)]
        return Sent.unchanged(torch.cat(index).to(frames.tokens.device))
