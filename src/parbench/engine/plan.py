"""The tokens of an image at each part of the model, predicted from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenPlan:
    """Predicted tokens of one image at each part of the model.

    Attributes:
        tokens: Kept visual tokens (the average over layers for methods inside the LLM).
        tower: Tokens that enter each vision block and leave the last one, including CLS.
        projected: Tokens through the projector.
        visual: Visual tokens that enter each LLM layer.
        free: Whether the method's overhead is 0 FLOPs.
        attended: Visual tokens in the attention of each LLM layer, if they differ from ``visual``; else empty.
        fed: Visual tokens in the feed-forward part of each LLM layer, if they differ from ``visual``; else empty.
        whole_blocks: Whether tokens leave a vision block only behind its MLP.
    """

    tokens: int
    tower: Sequence[int]
    projected: int
    visual: Sequence[int]
    free: bool
    attended: Sequence[int] = ()
    fed: Sequence[int] = ()
    whole_blocks: bool = False
