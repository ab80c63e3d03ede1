"""How each learned reducer is trained: its class, steps, learning rate, and the weights of its further losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from parbench.config.fields import check_fields
from parbench.errors import ParbenchError
from parbench.reducers.focusllava_vision import FocusLlavaVision
from parbench.reducers.learned_part import LearnedPart
from parbench.reducers.setok import SeTok
from parbench.reducers.skip_vision_ada import SkipVisionAda
from parbench.reducers.sparsek import SparseK
from parbench.reducers.tofc_codec import TofcCodec
from parbench.reducers.vistog import VisToG


@dataclass(frozen=True)
class Recipe:
    """The training of a learned reducer. The method needs no configuration of its own, so it can be trained before it is offered.

    Attributes:
        method: Its class.
        steps: Number of optimiser steps.
        rate: Peak learning rate.
        budget: The budget of half of the steps.
        terms: Weight of each further loss that :meth:`LearnedPart.learn` returns under this name; 1 for others.
    """

    method: type[LearnedPart]
    steps: int = 600
    rate: float = 1e-3
    budget: int = 64
    terms: Mapping[str, float] = field(default_factory=dict)

    def build(self, name: str, given: Mapping[str, str], budget: int) -> LearnedPart:
        """The method with fields as they are written on a command line.

        Raises:
            ParbenchError: It has no such field, or the value is impossible.
        """
        known = {one.name for one in dataclasses.fields(self.method)} - {"name", "budget", "weights", "untrained", "per"}
        for one in given:
            if one not in known:
                raise ParbenchError(f"method {name} is not trained with a field {one}: use one of {', '.join(sorted(known))}")
        values = {one: plain_value(one, text) for one, text in given.items()}
        check_fields(self.method, {"name": name, **values})
        return self.method(name=name, budget=budget, **values)

    def with_terms(self, given: Mapping[str, str]) -> Recipe:
        """A copy with other weights of further losses.

        Raises:
            ParbenchError: There is no such loss, or the weight is no number of 0 or more.
        """
        values = dict(self.terms)
        for one, text in given.items():
            if one not in values:
                raise ParbenchError(f"--term {one} is unknown: use one of {', '.join(sorted(values)) or 'none (it has no terms)'}")
            try:
                values[one] = float(text)
            except ValueError:
                values[one] = -1.0
            if not values[one] >= 0:
                raise ParbenchError(f"--term {one}={text} is impossible: use a number of 0 or more")
        return dataclasses.replace(self, terms=values)


def plain_value(name: str, text: str) -> Any:
    """The value of a field that is written as YAML.

    Raises:
        ParbenchError: It is no YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ParbenchError(f"{name}={text} is no value: write a number, a word or null") from error


RECIPES: dict[str, Recipe] = {
    "vistog": Recipe(VisToG, terms={"evenness": 0.1}),
    "tofc-codec": Recipe(TofcCodec, steps=400, terms={"balance": 0.01}),
    "setok": Recipe(SeTok),
    "skip-vision-ada": Recipe(SkipVisionAda, steps=300, rate=2e-3),
    "sparsek": Recipe(SparseK, rate=5e-3),
    "focusllava-vision": Recipe(FocusLlavaVision, steps=400, terms={"balance": 0.01}),
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a learned method.

    Raises:
        ParbenchError: There is none.
    """
    if name not in RECIPES:
        raise ParbenchError(f"method {name} has nothing to train: use one of {', '.join(RECIPES)} (docs/learned.md)")
    return RECIPES[name]
