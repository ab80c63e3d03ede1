"""Which methods are the best of a budget, and which cannot be told from the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parbench.statistics.bootstrap import Resampled
from parbench.statistics.ranking import better, ranks
from parbench.tables.measured import Measured, some


@dataclass(frozen=True)
class Choice:
    """The first methods of a budget.

    Attributes:
        budget: The budget.
        skill: The skill; empty for all questions.
        score: The measure, or accuracy on the skill, of all runs.
        first: Places of the runs than which none is better, by differences that hold after Holm's correction over all pairs of the
            budget; most accurate first.
        others: Places of the other runs, most accurate first.
    """

    budget: float
    skill: str
    score: Resampled
    first: tuple[int, ...]
    others: tuple[int, ...]

    @property
    def best(self) -> int:
        """The place of the most accurate run."""
        return (*self.first, *self.others)[0]


def choices(of: Measured, budget: float) -> list[Choice]:
    """The first methods without training at a budget: over all questions, then by skill.

    Methods are compared at the budget that they were asked for. What is told where the answer can be seen does not take part.
    """
    places = np.array(of.at(budget, trained=False))
    return [_choice(score, budget, skill, places) for skill, score in {"": of.score, **of.skills}.items()]


def _choice(score: Resampled, budget: float, skill: str, places: np.ndarray) -> Choice:
    rank = ranks(better(some(score, places.tolist())))
    order = np.argsort(-score.point[places], kind="stable")
    first = tuple(places[order[rank[order] == 1]].tolist())
    return Choice(budget, skill, score, first, tuple(places[order[rank[order] > 1]].tolist()))
