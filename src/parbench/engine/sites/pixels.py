"""The site of methods that make the image smaller before the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from parbench.engine.plan import TokenPlan
from parbench.engine.sites.base import Site
from parbench.models.adapter import LlavaAdapter
from parbench.models.vision import Encoded
from parbench.reducers import PixelReducer, Reduction


class PixelSite(Site[PixelReducer]):
    """Before the vision tower."""

    name = "pixels"
    acts_in_vision = True
    own_work = ("shrink",)

    @property
    def shares_beginnings(self) -> bool:
        """Yes: the visual tokens are final when they enter the LLM."""
        return True

    def encode(self, adapter: LlavaAdapter, pixels: Tensor) -> Encoded:
        """Make the images smaller, then run the vision tower."""
        return adapter.encode(self.reducer.shrink(pixels, self.geometry))

    def reduce(
        self, adapter: LlavaAdapter, encoded: Encoded, questions: Sequence[str], _seeds: Sequence[int]
    ) -> tuple[Reduction, list[int]]:
        """The tokens of the smaller images."""
        given = self.reducer.origin(encoded, self.geometry)
        return replace(given, tokens=adapter.project(given.tokens)), [encoded.work] * len(questions)

    def plan(self, tokens: int) -> TokenPlan:
        """Every vision block has the smaller image; resizing is no product."""
        made = super().plan(tokens)
        return replace(made, tower=[tokens + 1] * len(made.tower), free=True)
