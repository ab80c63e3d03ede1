"""Base class of methods between the vision tower and the LLM that compare the frames of a video."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parbench.errors import ParbenchError, UnfitSample
from parbench.reducers.base import one_of
from parbench.reducers.frames import Frames, Sent, batched, clip_shape
from parbench.reducers.provenance import Reduction
from parbench.reducers.sites.tokens import TokenReducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.token_probes import Probes


@dataclass
class ClipReducer(TokenReducer):
    """Acts on all frames of a video at once, between the vision tower and the LLM.

    A budget is that of the whole video: a number of tokens, or a share of those of all its frames. A budget of all tokens keeps
    them unchanged. Tokens are sent by place: frame after frame, in raster order within each. A still image is refused. In models
    that join frames, such as two in the Qwen models, a frame is a joined one.
    """

    needs = frozenset({"frames"})

    place: str = "after_projector"

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(self, within=(None, "image"))
        super().__post_init__()

    def least(self, frames: int, size: int) -> int:
        """Tokens that are kept of a video in any case, of ``frames`` frames with ``size`` tokens each."""
        return 1

    def check(self, geometry: Geometry) -> None:
        """Also refuse a budget that the method cannot deliver for a video of these sizes."""
        super().check(geometry)
        # One frame is not told from a model's sizes without any video.
        frames = geometry.frames
        if frames > 1 and (short := self.out_of_reach(frames, geometry.patches // frames, self.asked(geometry))):
            raise ParbenchError(short)

    def out_of_reach(self, frames: int, size: int, asked: int | None) -> str:
        """Why the method cannot deliver ``asked`` tokens of a video of ``frames`` frames with ``size`` each; empty if it can."""
        if asked is None or asked >= (least := self.least(frames, size)):
            return ""
        what = f"{frames} frame{'s' * (frames > 1)} with {size} tokens each"
        return (
            f"budget={self.written_budget} of method {self.name} is out of reach: of a video of {what}, it always keeps {least} of "
            f"{frames * size}"
        )

    @abstractmethod
    def reduce_clip(self, frames: Frames) -> Sent:
        """Reduce the tokens of one video.

        Args:
            frames: Its frames. If there is a budget, it is less than all of their tokens.

        Returns:
            The tokens, in any order.
        """

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Reduce a batch of videos of F frames with N tokens each, from features [B, F x N, d].

        Raises:
            UnfitSample: They are still images, frames differ in their tokens, or the budget is out of reach.
        """
        shape = clip_shape(probes.parts, self.name)
        # Videos of a data set differ in length, so that one may be too short and others not.
        if short := self.out_of_reach(*shape, self.asked(probes.geometry)):
            raise UnfitSample(short)
        budget = self.asked(probes.geometry) if self.adaptive else self.count(probes.geometry)
        sent = []
        for row, tokens in enumerate(features):
            if budget == len(tokens):
                sent.append(Sent.unchanged(torch.arange(budget, device=tokens.device)))
            else:
                sent.append(self.reduce_clip(Frames(tokens.unflatten(0, shape), probes, row)).ordered())
        return batched(features, sent)

    def tokens_of(self, frames: Frames) -> int:
        """The budget of a video in tokens.

        Raises:
            ParbenchError: There is none.
        """
        return self.count(frames.geometry)

    def share_of(self, frames: Frames) -> float:
        """The budget as a share of the tokens of a video: as it is written, if it is one."""
        found = self.tokens_of(frames)
        return float(self.budget) if self.budget is not None and self.budget < 1 else found / (frames.count * frames.size)
