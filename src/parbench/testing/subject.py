"""A method under test, with its answers at each budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from parbench.engine.engine import Engine
from parbench.engine.features import FeatureCache
from parbench.engine.samples import Answer, Sample
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.families import ImageTokens
from parbench.reducers import Reducer
from parbench.reducers.needs import check_model
from parbench.reducers.none import Unreduced

# More visual tokens than any image has.
_MOST = 1 << 20
# Of features that are held for all methods.
_BYTES = 1 << 28


class NotApplicable(Exception):
    """A check does not apply to this method."""


class Trial:
    """A model and questions for testing methods.

    Args:
        adapter: The model.
        samples: The questions, about several images, with several about one of them.
    """

    def __init__(self, adapter: ModelAdapter, samples: Sequence[Sample]) -> None:
        self.adapter = adapter
        self.samples = list(samples)
        # Of images that are encoded without a method in the tower.
        self.features = FeatureCache(_BYTES)

    @property
    def some(self) -> list[Sample]:
        """Every other question, for checks that are slow because all tokens are kept."""
        return self.samples[::2]

    @cached_property
    def unreduced(self) -> list[Answer]:
        """The answers to :attr:`some` without reduction."""
        return Engine(self.adapter, Unreduced(name="none"), share=False).answer(self.some)

    @property
    def patches(self) -> int:
        """Visual tokens of an image without reduction."""
        return self.adapter.geometry.patches

    def tokens_of(self, sample: Sample) -> ImageTokens:
        """What the first image or video of a sample becomes in its prompt."""
        return self.adapter.prepare(sample.load()[0]).tokens

    @property
    def everything(self) -> int:
        """A budget that keeps every token of each image."""
        return _MOST if self.adapter.geometry.varies else self.patches

    def part(self, of: int) -> int | float:
        """A budget of one token of ``of``: a number, or where images differ in their number of tokens, a share."""
        return round(1 / of, 3) if self.adapter.geometry.varies else self.patches // of

    @cached_property
    def about_one_image(self) -> list[Sample]:
        """The questions about the first image."""
        return [sample for sample in self.samples if sample.group == self.samples[0].group]


class Subject:
    """A method under test. Thresholds that need calibration are set to 0.5.

    Args:
        method: The method, with or without a budget.
        trial: Model and questions.
    """

    def __init__(self, method: Reducer, trial: Trial) -> None:
        adapter = trial.adapter
        self.method = _with_threshold(method).for_model(adapter.name, lambda: adapter.fingerprint, adapter.geometry)
        self.trial = trial
        self._answers: dict[int | float | None, list[Answer]] = {}

    def at(self, budget: int | float | None, **fields: Any) -> Reducer:
        """The method with a budget (None for none) and other fields."""
        changed = fields if budget is None else {"budget": budget, **fields}
        return _with_threshold(dataclasses.replace(self.method, **changed))

    def deliverable(self, budget: int | float | None) -> Reducer:
        """The method at a budget.

        Raises:
            NotApplicable: It needs a budget, takes none, or cannot deliver this one on the model.
        """
        if budget is not None and not self.method.takes_budget:
            raise NotApplicable("takes no budget")
        method = self.at(budget)
        ruled = method.adaptive or method.site == "layers" or not method.takes_budget
        if method.budget is None and not ruled:
            raise NotApplicable("needs a budget")
        try:
            check_model(method, self.trial.adapter.geometry)
            if method.compares_frames:
                # What it keeps in any case depends on the frames.
                method.check(self.trial.adapter.geometry.of_tokens(self.trial.tokens_of(self.trial.samples[0])))
        except ParbenchError as error:
            raise NotApplicable("cannot deliver so few tokens on this model") from error
        return method

    def small(self) -> Reducer:
        """The method at a ninth of the tokens, or at the next budget that it can deliver (VTW keeps or drops whole layers).

        Raises:
            AssertionError: It can deliver neither.
        """
        part = self.trial.part
        for budget in (part(9), part(6), part(3), part(2)) if self.method.takes_budget else (None,):
            try:
                return self.deliverable(budget)
            except NotApplicable:
                continue
        raise AssertionError(f"{self.method.name} can deliver neither a ninth nor half of the tokens")

    def answers(self, budget: int | float | None) -> list[Answer]:
        """The answers to all questions in one batch, computed once.

        Raises:
            NotApplicable: See :meth:`deliverable`.
        """
        if budget not in self._answers:
            self._answers[budget] = self.engine(self.deliverable(budget)).answer(self.trial.samples)
        return self._answers[budget]

    def engine(self, method: Reducer, **options: Any) -> Engine:
        """An engine with the method; ``options`` are arguments of the engine."""
        return Engine(self.trial.adapter, method, features=self.trial.features, **options)


def _with_threshold(method: Reducer) -> Reducer:
    field = method.calibrates
    if not field or getattr(method, field) is not None or method.exact_budget:
        return method
    fields: dict[str, Any] = {field: 0.5}
    return dataclasses.replace(method, **fields)
