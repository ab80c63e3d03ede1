"""Composed methods: one acts before the LLM, another inside it on the tokens that the first lets in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Choice, LayerReducer, Reducer
from parbench.reducers.composing import of_part
from parbench.reducers.entered import delivers, entered
from parbench.reducers.pair import Pair

if TYPE_CHECKING:
    from parbench.reducers.layer_probes import View

# Tokens that enter the LLM for each token of the budget: VScan's 96 for an average of 64.
_LET_IN = 1.5
# More visual tokens than any image has.
_EVERYTHING = 1 << 30


@dataclass
class Composed(Pair):
    """Two methods in one: ``before`` chooses the tokens that enter the LLM, ``inside`` drops more of them in its layers.

    The budget is the average over the layers of the LLM. By default ``before`` lets in one and a half times the budget, and at most
    all tokens, and ``inside`` is solved for the rest. A budget of ``before`` replaces this share. A budget of ``inside`` is the
    same average, so it stands for the budget. Without either, ``inside`` follows its own rule, and ``before`` needs a budget. At
    the full budget both keep everything. Layers, position ids and all other fields are those of the parts.
    """

    title = "Composed"

    def __post_init__(self) -> None:
        """Also take name and papers from the parts, in a method without a class of its own."""
        super().__post_init__()
        if type(self) is Composed:
            vars(self)["title"] = " + ".join(part.title for part in self.parts)
            vars(self)["paper"] = ", ".join(part.paper for part in self.parts if part.paper)

    def in_tokens(self, geometry: Geometry) -> Self:
        """A copy with the budgets of both parts in tokens."""
        if geometry.varies:
            return self
        asked, before = self.asked(geometry), self.before.with_budget(self.let_in(geometry))
        inside = self.inside if self.inside.budget is None else self.inside.with_budget(asked)
        return replace(self, budget=asked, before=before, inside=inside)

    def let_in(self, geometry: Geometry) -> int:
        """Visual tokens of an image that enter the LLM.

        Raises:
            ParbenchError: There is no budget, or it is impossible.
        """
        return self.entering(geometry).count(geometry)

    def entering(self, geometry: Geometry) -> Reducer:
        """The method before the LLM, with its budget.

        Raises:
            ParbenchError: There is no budget, or it is impossible.
        """
        budget = self.before.budget
        found = self.before.with_budget(self._share(geometry) if budget is None else budget)
        if not found.exact_budget or found.open_threshold is not None:
            how = "method.before.per_image=true" if hasattr(found, "per_image") else "a method that keeps its budget exactly"
            raise ParbenchError(
                f"{found.name} of method {self.name} keeps its budget only on average over images, but {self.inside.name} has to "
                f"know how many tokens come in: use {how}"
            )
        return found

    def _share(self, geometry: Geometry) -> int | float:
        """The budget of ``before`` that the average over the layers implies."""
        if self.budget is None:
            raise ParbenchError(f"method {self.name} needs a budget: use budget=64, or method.before.budget=96")
        if not geometry.varies:
            return min(math.ceil(_LET_IN * self.count(geometry)), geometry.patches)
        wanted = _LET_IN * self.budget
        if self.budget < 1:
            return wanted if wanted < 1 else _EVERYTHING
        return math.ceil(wanted)

    def within_llm(self, geometry: Geometry) -> LayerReducer:
        """The method inside the LLM, with the budget that is left to it for an image of these sizes."""
        asked, enter = self.asked(geometry), self.let_in(geometry)
        if asked is None:
            return self.inside
        share = self.is_share_of(geometry) and asked < enter
        return self.inside.with_budget(asked / enter if share else asked)

    def check(self, geometry: Geometry) -> None:
        """Refuse what either part refuses, and budgets that they cannot have together."""
        asked = self.asked(geometry)
        with of_part("before", budget=self.before.budget is not None):
            before = self.entering(geometry)
            before.check(geometry)
        enter = self.let_in(geometry)
        if asked is not None and enter < asked:
            raise ParbenchError(
                f"method.before.budget={self.before.budget} of {self.name} lets in {enter} visual tokens, less than the average of "
                f"budget={self.budget} over the layers: use method.before.budget={asked} or more"
            )
        with of_part("inside"):
            self.inside.with_budget(None if asked is None else enter).check(entered(geometry, enter))
        if asked is not None:
            self._check_average(geometry, asked, enter)

    def _check_average(self, geometry: Geometry, asked: int, enter: int) -> None:
        """Refuse an average that ``inside`` cannot deliver with ``enter`` tokens."""
        inside = self.inside.with_budget(asked)
        try:
            inside.check(entered(geometry, enter))
        except ParbenchError as error:
            others = (count for count in range(enter - 1, asked, -1) if delivers(inside, entered(geometry, count)))
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach while {self.before.name} lets in {enter} visual tokens: use "
                f"method.before.budget={next(others, asked)}"
            ) from error

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The layers of ``inside``."""
        # The same for all images.
        geometry = geometry.any_image
        return self.within_llm(geometry).stages(entered(geometry, self.let_in(geometry)))

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens after each stage of ``inside``."""
        return self.within_llm(geometry).left(self._inside_of(geometry))

    def by_layer(self, geometry: Geometry) -> list[int]:
        """Visual tokens that enter each layer: at first those that ``before`` lets in."""
        return self.within_llm(geometry).by_layer(self._inside_of(geometry))

    def choose(self, view: View) -> Choice:
        """The choice of ``inside``."""
        return self.within_llm(view.geometry).choose(replace(view, geometry=self._inside_of(view.geometry)))

    def _inside_of(self, geometry: Geometry) -> Geometry:
        """The sizes of an image as ``inside`` meets it."""
        usual = geometry.any_image
        return entered(geometry, self.let_in(geometry), entered(usual, self.let_in(usual)))
