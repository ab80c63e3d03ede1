"""Composed methods: one acts before the LLM, another inside it on the tokens that the first lets in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Choice, LayerReducer, Reducer
from parbench.reducers.composing import check_parts, delivers, entered, of_part

if TYPE_CHECKING:
    from parbench.reducers.layer_probes import View

# Tokens that enter the LLM for each token of the budget: VScan's 96 for an average of 64.
_LET_IN = 1.5
# More visual tokens than any image has.
_EVERYTHING = 1 << 30


@dataclass
class Composed(LayerReducer):
    """Two methods in one: ``before`` chooses the tokens that enter the LLM, ``inside`` drops more of them in its layers.

    The budget is the average over the layers of the LLM. By default ``before`` lets in one and a half times the budget, and at most
    all tokens, and ``inside`` is solved for the rest. A budget of ``before`` replaces this share. A budget of ``inside`` is the
    same average, so it stands for the budget. Without either, ``inside`` follows its own rule, and ``before`` needs a budget. At
    the full budget both keep everything. Layers, position ids and all other fields are those of the parts.

    Attributes:
        before: The method before the LLM or in the vision tower. It has to keep exactly its budget for each image.
        inside: The method inside the LLM.
    """

    title = "Composed"
    # The parts have their own.
    positions: str = field(default="keep", init=False, repr=False)
    before: Reducer = field(kw_only=True)
    inside: LayerReducer = field(kw_only=True)

    def __post_init__(self) -> None:
        """Check that the parts fit together, and take over what they say about themselves."""
        check_parts(self.name, self.before, self.inside)
        self._check_budgets()
        if self.budget is None:
            self.budget = self.inside.budget
        if type(self) is Composed:
            vars(self)["title"] = " + ".join(part.title for part in self.parts)
            vars(self)["paper"] = ", ".join(part.paper for part in self.parts if part.paper)
        # What a class says of other methods follows from the parts here.
        vars(self).update(
            prompt_aware=any(part.prompt_aware for part in self.parts),
            told_evidence=any(part.told_evidence for part in self.parts),
            control=all(part.control for part in self.parts),
            free=all(part.free for part in self.parts),
            reads=self.inside.reads,
            substitutes=self._substitutes(),
        )

    def _check_budgets(self) -> None:
        if self.per or any(part.per for part in self.parts):
            raise ParbenchError(f"a budget for each frame is not defined for {self.name}, which is composed of two: give a ratio")
        average, before, inside = self.budget, self.before.budget, self.inside.budget
        if average is not None and inside not in (None, average):
            raise ParbenchError(
                f"budget={average} and method.inside.budget={inside} of {self.name} are the same average over the layers: leave "
                f"method.inside.budget out, or set budget={inside}"
            )
        average = inside if average is None else average
        alike = average is not None and before is not None and (average < 1) == (before < 1)
        if average is not None and before is not None and alike and before < average:
            raise ParbenchError(
                f"method.before.budget={before} of {self.name} is less than budget={average}, the average over the layers: no more "
                f"tokens than enter the LLM are in its layers, so use method.before.budget={average} or more"
            )

    def _substitutes(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for role, part in self._by_role().items():
            for need, values in part.substitutes.items():
                found.setdefault(need, {}).update({f"{role}.{name}": value for name, value in values.items()})
        return found

    def _by_role(self) -> dict[str, Reducer]:
        return {"before": self.before, "inside": self.inside}

    # What the parts are together.

    @property
    def parts(self) -> tuple[Reducer, ...]:
        """The two methods."""
        return self.before, self.inside

    @property
    def wants(self) -> frozenset[str]:
        """What either part needs of a model."""
        return self.before.wants | self.inside.wants

    @property
    def needs_clip(self) -> bool:
        """Whether either part needs CLIP's text tower."""
        return any(part.needs_clip for part in self.parts)

    @property
    def note(self) -> str:
        """The budgets of both parts, and what each has to say."""
        enter, average = self.before.budget, self.budget
        drops = "drops by its own rule" if average is None else f"makes it {average:g} on average over the layers"
        budgets = [] if enter is None else [f"{self.before.name} lets in {enter:g} visual tokens, {self.inside.name} {drops}"]
        return "; ".join([*budgets, *(part.note for part in self.parts if part.note)])

    @property
    def training(self) -> dict[str, Any] | None:
        """That of the first learned part."""
        return next((part.training for part in self.parts if part.training), None)

    def settings(self) -> dict[str, Any]:
        """The budget, and the class and the fields of both parts."""
        found: dict[str, Any] = {"budget": self.budget, "name": self.name}
        for role, part in self._by_role().items():
            kind = type(part)
            found[role] = {"class": f"{kind.__module__}.{kind.__qualname__}", **part.settings()}
        return found

    # Copies.

    def with_budget(self, budget: int | float | None) -> Self:
        """A copy with another average over the layers, and the default share of it before the LLM."""
        return replace(self, budget=budget, before=self.before.with_budget(None), inside=self.inside.with_budget(None))

    def with_fields(self, values: Mapping[str, Any]) -> Self:
        """A copy with other fields, those of the parts as ``before.NAME`` and ``inside.NAME``."""
        own = {name: value for name, value in values.items() if "." not in name}
        for role, part in self._by_role().items():
            mine = {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{role}.")}
            if mine:
                own[role] = part.with_fields(mine)
        return replace(self, **own)

    def for_model(self, model: str, fingerprint: Callable[[], str], geometry: Geometry) -> Self:
        """A copy with both parts as they run on a model."""
        before, inside = (self.before.for_model(model, fingerprint, geometry), self.inside.for_model(model, fingerprint, geometry))
        return self if (before, inside) == self.parts else replace(self, before=before, inside=inside)

    def in_tokens(self, geometry: Geometry) -> Self:
        """A copy with the budgets of both parts in tokens."""
        if geometry.varies:
            return self
        asked, before = self.asked(geometry), self.before.with_budget(self.let_in(geometry))
        inside = self.inside if self.inside.budget is None else self.inside.with_budget(asked)
        return replace(self, budget=asked, before=before, inside=inside)

    # What each part does on a model.

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

    @property
    def needs_words(self) -> bool:
        """Whether ``inside`` needs the kinds of the text tokens."""
        return self.inside.needs_words

    @property
    def compacts(self) -> bool:
        """Whether ``inside`` renumbers position ids."""
        return self.inside.compacts

    @property
    def cached(self) -> bool:
        """Whether ``inside`` decodes with the KV cache of the reduced prompt."""
        return self.inside.cached

    @property
    def masked(self) -> bool:
        """Whether ``inside`` only masks what it drops."""
        return self.inside.masked

    @property
    def weighs_sizes(self) -> bool:
        """Whether ``inside`` weights attention by the sizes of merged tokens."""
        return self.inside.weighs_sizes
