"""The site of methods that make the image smaller before the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parbench.engine.plan import TokenPlan
from parbench.engine.sites.base import Site
from parbench.models.adapter import LlavaAdapter
from parbench.models.families import Prepared
from parbench.models.vision import Encoded
from parbench.reducers import PixelReducer, Reduction
from parbench.reducers.token_probes import Shown


class PixelSite(Site[PixelReducer]):
    """The image, before the vision tower."""

    name = "pixels"
    acts_in_vision = True
    overhead_functions = ("shrink",)

    @property
    def shares_prefixes(self) -> bool:
        """True: the visual tokens do not change inside the LLM."""
        return True

    def encode(self, adapter: LlavaAdapter, images: Sequence[Prepared]) -> list[Encoded]:
        """Shrink the images, then run the vision tower."""
        return adapter.encode(self.reducer.shrink(adapter.pixels_of(images), self.geometry)).split()

    def reduce(
        self,
        adapter: LlavaAdapter,
        encoded: Encoded,
        questions: Sequence[str],
        _seeds: Sequence[int],
        _evidence: Sequence[Shown | None] = (),
    ) -> tuple[Reduction, list[int]]:
        """Return the tokens of the smaller images."""
        given = self.reducer.origin(encoded, self.geometry)
        return replace(given, tokens=adapter.project(given.tokens)), [encoded.work] * len(questions)

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens at each part of the model: every vision block runs on the smaller image. Resizing costs no FLOPs."""
        made = super().plan(tokens)
        return replace(made, tower=[tokens + 1] * len(made.tower), free=True)
