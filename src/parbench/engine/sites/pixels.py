"""The site of methods that make the image smaller before the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parbench.engine.plan import TokenPlan
from parbench.engine.sites.vision import VisionSite
from parbench.models.adapter import ModelAdapter
from parbench.models.families import Prepared
from parbench.models.vision import Encoded
from parbench.reducers import PixelReducer


class PixelSite(VisionSite[PixelReducer]):
    """The image, before the vision tower."""

    name = "pixels"
    overhead_functions = ("shrink",)

    @property
    def shares_prefixes(self) -> bool:
        """True: the visual tokens do not change inside the LLM."""
        return True

    def encode(self, adapter: ModelAdapter, images: Sequence[Prepared]) -> list[Encoded]:
        """Shrink the images, then run the vision tower."""
        return adapter.encode(self.reducer.shrink(adapter.pixels_of(images), self.geometry)).split()

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens at each part of the model: every vision block runs on the smaller image. Resizing costs no FLOPs."""
        made = super().plan(tokens)
        return replace(made, tower=[tokens + 1] * len(made.tower), free=True)
