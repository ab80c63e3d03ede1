"""How many tokens of an image a method would have where, from sizes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TokenPlan:
    """Tokens of one image, place by place, that a method would have at a budget.

    Attributes:
        tokens: Visual tokens that are left (the average over layers for methods inside the LLM).
        tower: Tokens that enter each vision block, and that leave the last, CLS included.
        projected: Those that the projector sees.
        visual: Those that enter each LLM layer.
        free: Whether the method does nothing that is counted.
        attended: Visual tokens that attention runs on in each LLM layer, where they are not those that enter it; else empty.
    """

    tokens: int
    tower: Sequence[int]
    projected: int
    visual: Sequence[int]
    free: bool
    attended: Sequence[int] = ()
