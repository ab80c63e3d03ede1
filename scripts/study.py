"""Paired comparisons within a study that scripts/keep_study.py has kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from parbench.statistics.bootstrap import Resampled, resample
from parbench.statistics.measures import Sums, ratio
from parbench.statistics.significance import flips, holm
from parbench.tables.text import number, p_text, ranged

FOLDER = Path(__file__).parents[1] / "results" / "reference"


def path_of(experiment: str) -> Path:
    """The file of an experiment's study."""
    return FOLDER / f"study-{experiment}.json"


@dataclass(frozen=True)
class Comparison:
    """A run minus its reference, on the same questions.

    Attributes:
        run: The run.
        accuracy: Its accuracy.
        difference: Its accuracy minus that of the reference.
        interval: 95 % interval of the difference, by resampling images with their questions.
        p: McNemar's exact test; Holm's correction over the family in :func:`corrected`.
    """

    run: Mapping[str, Any]
    accuracy: float
    difference: float
    interval: tuple[float, float]
    p: float

    def cells(self) -> list[str]:
        """Cells of a table: accuracy in %, difference with interval in points, and p."""
        difference = ranged((self.difference, *self.interval), 100, signed=True)
        return [number(self.accuracy, 100), difference, p_text(self.p)]


class Study:
    """The answers of several runs to the same questions.

    Args:
        content: As :func:`keep_study.study` gives it.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.runs: Sequence[Mapping[str, Any]] = content["runs"]
        self.about = f"{content['model']}, {len(content['image'])} questions of {content['dataset']}"
        self.image, self.skill = np.array(content["image"]), np.array(content["skill"])
        self.right = np.array([list(run["right"]) for run in self.runs]) == "1"

    @staticmethod
    def kept(experiment: str) -> Study:
        """The study of an experiment in the repository."""
        return Study(json.loads(path_of(experiment).read_text(encoding="utf-8")))

    @cached_property
    def skills(self) -> list[str]:
        """The skills that the questions test."""
        return sorted(set(self.skill))

    def accuracy(self, run: Mapping[str, Any], skill: str | None = None) -> float:
        """The accuracy of a run, over all questions or those of a skill."""
        return float(self.right[self._place(run), self._asked(skill)].mean())

    def _place(self, run: Mapping[str, Any]) -> int:
        return next(place for place, other in enumerate(self.runs) if other is run)

    def _asked(self, skill: str | None) -> np.ndarray:
        asked: np.ndarray = np.ones(len(self.skill), dtype=bool) if skill is None else self.skill == skill
        return asked

    def _resampled(self, skill: str | None) -> Resampled:
        counts = self._asked(skill)
        values = np.stack([self.right & counts, np.broadcast_to(counts, self.right.shape)], axis=-1).astype(float)
        parts = np.zeros((len(self.runs), self.image.max() + 1, 2))
        np.add.at(parts, (slice(None), self.image), values)
        [found] = resample([Sums(parts, ratio)])
        return found

    def against(
        self, reference: Callable[[Mapping[str, Any]], Mapping[str, Any] | None], skill: str | None = None
    ) -> list[Comparison]:
        """Every run that has a reference, compared with it; p with Holm's correction over all of these comparisons.

        Args:
            reference: The run with which a run is compared; None for none.
            skill: Only questions of this skill count; None for all.
        """
        resampled, asked, found = self._resampled(skill), self._asked(skill), []
        for place, run in enumerate(self.runs):
            other = reference(run)
            if other is None or other is run:
                continue
            before = self._place(other)
            difference = resampled.against(place, before)
            p = flips(self.right[place][asked], self.right[before][asked]).p
            found.append(Comparison(run, float(resampled.point[place]), difference.point, difference.interval(), p))
        corrected = holm([one.p for one in found])
        return [replace(one, p=p) for one, p in zip(found, corrected, strict=True)]

    def run(self, label: str, budget: int | None) -> Mapping[str, Any] | None:
        """The run of a label at a budget, if there is one."""
        return next((run for run in self.runs if (run["label"], run["budget"]) == (label, budget)), None)
