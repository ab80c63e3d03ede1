"""Two methods in one, of which the first acts before the LLM and the second inside it: what the two are together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from parbench.models.geometry import Geometry
from parbench.reducers import LayerReducer, Reducer
from parbench.reducers.composing import check_budgets, check_parts, of_part


@dataclass
class Pair(LayerReducer):
    """The two parts of a composed method, and what follows from them whatever the model.

    Attributes:
        before: The method before the LLM or in the vision tower. It has to keep exactly its budget for each image.
        inside: The method inside the LLM.
    """

    # The parts have their own.
    positions: str = field(default="keep", init=False, repr=False)
    before: Reducer = field(kw_only=True)
    inside: LayerReducer = field(kw_only=True)

    def __post_init__(self) -> None:
        """Check that the parts fit together, and take over what they say about themselves."""
        check_parts(self.name, self.before, self.inside)
        check_budgets(self)
        if self.budget is None:
            self.budget = self.inside.budget
        # What a class says of other methods follows from the parts here.
        vars(self).update(
            prompt_aware=any(part.prompt_aware for part in self.parts),
            told_evidence=any(part.told_evidence for part in self.parts),
            control=all(part.control for part in self.parts),
            free=all(part.free for part in self.parts),
            reads=self.inside.reads,
            substitutes=self._substitutes(),
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
        with of_part("before", budget=True):
            before = self.before.for_model(model, fingerprint, geometry)
        with of_part("inside"):
            inside = self.inside.for_model(model, fingerprint, geometry)
        return self if (before, inside) == self.parts else replace(self, before=before, inside=inside)

    # What the LLM's hooks ask, of ``inside``.

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
