"""Methods without a trained part, which choose tokens while an LLM is adapted to few of them: the controls of learned methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from parbench.config.building import reducer_of
from parbench.config.groups import names
from parbench.config.plain import option
from parbench.errors import ParbenchError, unknown
from parbench.models.geometry import Geometry
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.learned_part import LearnedPart
from parbench.reducers.modules.base import LearnedModule
from parbench.reducers.token_probes import Probes
from tiny.reducer_recipes import RECIPES, Recipe, plain_value

# What learned methods are compared with: any tokens, evenly spaced ones, those that CLS attends to, means, and all of them.
CONTROLS = ("random", "uniform", "cls-topk", "kmeans", "none")


class Nothing(LearnedModule):
    """The trained part of a method that has none."""

    kind = "nothing"

    def reset(self) -> Self:
        """Nothing changes."""
        return self


@dataclass(frozen=True)
class Control:
    """A method before the LLM in training. It chooses tokens by its own code, as in evaluation, with new noise in each step.

    Attributes:
        method: The method.
    """

    module_kind: ClassVar[type[LearnedModule]] = Nothing
    depends_on: ClassVar[tuple[str, ...]] = ()
    training_budgets: ClassVar[tuple[int, int]] = LearnedPart.training_budgets
    method: TokenReducer

    @property
    def name(self) -> str:
        """Its name."""
        return self.method.name

    @property
    def budget(self) -> int | float | None:
        """Tokens that it keeps."""
        return self.method.budget

    @property
    def place(self) -> str:
        """Where it acts."""
        return self.method.place

    def check(self, geometry: Geometry) -> None:
        """Refuse a budget that it cannot deliver on this model."""
        self.method.check(geometry)

    def with_budget(self, budget: int) -> Control:
        """The method with another budget; itself if it keeps all tokens."""
        return Control(self.method.with_budget(budget)) if self.method.takes_budget else self

    def vision_blocks(self, geometry: Geometry) -> tuple[int, ...]:
        """The vision blocks whose attention it uses."""
        return self.method.blocks_of(geometry)

    def unfed(self, _geometry: Geometry) -> None:
        """All tokens pass the whole LLM."""

    def shares(self, _module: Any, *, soft: bool) -> None:
        """All layers see all tokens."""

    def module_for(self, _geometry: Geometry, _width: int) -> Nothing:
        """It has no trained part."""
        return Nothing()

    def start(self, _module: Any, _adapter: Any, _batches: Iterable[Tensor], _generator: torch.Generator) -> None:
        """There is nothing to prepare."""

    def evaluate(self, _module: Any, features: Tensor, probes: Probes) -> Reduction:
        """The reduced tokens; see :meth:`TokenReducer.reduce`.

        Raises:
            ParbenchError: Images keep different numbers of tokens.
        """
        found = self.method.reduce(features, probes)
        if found.tokens.shape[1] != int(found.counts.min()):
            raise ParbenchError(f"method {self.name} keeps more tokens of one image than of another, and cannot be trained with")
        return found

    def learn(self, module: Any, features: Tensor, probes: Probes, _generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokens in training, and no further losses."""
        return self.evaluate(module, features, probes).tokens, {}


def label_of(method: LearnedPart | Control, seed: int) -> str:
    """What an adapter adds to a model's name: the method, its budget, and the seed of training if it is another than 0."""
    budget = "" if method.budget is None else f"-{method.budget}"
    return f"{method.name}{budget}" + (f"-seed{seed}" if seed else "")


class ControlRecipe(Recipe):
    """The training of an LLM with a method that has no trained part."""

    def build(self, name: str, given: Mapping[str, str], budget: int) -> Any:
        """The method with fields as they are written on a command line.

        Raises:
            ParbenchError: It has no such field, or the value is impossible.
        """
        settings = option("method", name, model={})
        known = {one.name for one in dataclasses.fields(self.method)} - {"name", "budget", "per"}
        for one in given:
            if one not in known:
                raise unknown(f"field of method {name}", one, known)
        fields = {one: plain_value(one, text) for one, text in given.items()}
        own = reducer_of({**settings, **fields})
        own = own.with_budget(budget) if own.takes_budget else own
        assert isinstance(own, TokenReducer)
        if own.positions != "compact":
            raise ParbenchError(f"method.positions={own.positions} has no training, where tokens stand in a row: leave it out")
        return Control(own)


def adapted_recipe(name: str) -> Recipe:
    """The training of an LLM with a method: that of a learned one, or the steps, rate and budget of these for another.

    Raises:
        ParbenchError: There is no such method, or questions cannot be packed behind its tokens.
    """
    return RECIPES[name] if name in RECIPES else control_recipe(name)


def control_recipe(name: str) -> Recipe:
    """The training of an LLM with a method that has no trained part.

    Raises:
        ParbenchError: There is no such method, or questions cannot be packed behind its tokens.
    """
    if name not in names("method"):
        raise unknown("method", name, names("method"))
    own = reducer_of(option("method", name, model={}))
    if not isinstance(own, TokenReducer) or own.site != "tokens":
        raise ParbenchError(f"method {name} does not choose tokens before the LLM: use one of {', '.join(CONTROLS)}")
    if own.prompt_aware or own.told_evidence or own.calibrates:
        what = "has a threshold" if own.calibrates else "looks at the question, and training packs many behind one image"
        raise ParbenchError(f"method {name} {what}: use one of {', '.join(CONTROLS)}")
    return ControlRecipe(type(own))  # type: ignore[arg-type]
