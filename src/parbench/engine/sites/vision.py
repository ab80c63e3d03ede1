"""What sites have in common at which the tower's output is already reduced: in the image, and inside the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from parbench.engine.sites.base import Site
from parbench.models.adapter import ModelAdapter
from parbench.models.vision import Encoded
from parbench.reducers import PixelReducer, Reduction, TowerReducer
from parbench.reducers.token_probes import Shown

Early_co = TypeVar("Early_co", PixelReducer, TowerReducer, covariant=True)


class VisionSite(Site[Early_co], Generic[Early_co]):
    """At or before the vision tower, whose output are the tokens that are left."""

    acts_in_vision = True

    def reduce(
        self,
        adapter: ModelAdapter,
        encoded: Encoded,
        questions: Sequence[str],
        _seeds: Sequence[int],
        _evidence: Sequence[Shown | None] = (),
    ) -> tuple[Reduction, list[int]]:
        """Project the tokens that leave the tower, and say where they come from."""
        given = self.reducer.origin(encoded, self.geometry)
        return replace(given, tokens=adapter.project(given.tokens)), [encoded.work] * len(questions)
