"""Measures as they are defined, each a function of sums over images: that is what can be resampled by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from parbench.errors import ParbenchError, unknown
from parbench.results.official import PERCEPTION
from parbench.statistics.answers import Answers

# The rest of MME's subtasks; a category's points are summed over these or those.
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


@dataclass(frozen=True)
class Sums:
    """A measure of R runs, before it is summed over images.

    Attributes:
        parts: What is summed [R, m, d].
        value: From sums over images [..., d] to the measure [...]; of degree 0, so that weights of images may be any.
        strata: For each image the stratum it is drawn in [m], where the benchmark fixes how many images each has.
    """

    parts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]
    strata: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))

    @property
    def point(self) -> np.ndarray:
        """The measure of each run [R]; NaN where there is nothing to measure."""
        return self.value(self.parts.sum(axis=1))

    @property
    def freedom(self) -> np.ndarray:
        """Images that say something, less one for each stratum [R]."""
        used = (self.parts != 0).any(axis=2)
        if not len(self.strata):
            return used.sum(axis=1) - 1
        return used.sum(axis=1) - np.array([len(np.unique(self.strata[row])) for row in used])


@dataclass(frozen=True)
class Measure:
    """What a table calls a measure.

    Attributes:
        name: In options and columns.
        title: In headers.
        scale: What the value is multiplied with to be shown.
        digits: After the point.
        sums: From answers to sums.
    """

    name: str
    title: str
    scale: float
    digits: int
    sums: Callable[[Answers], Sums]


def ratio(sums: np.ndarray) -> np.ndarray:
    """First over second; NaN over nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] != 0, sums[..., 0] / sums[..., 1], np.nan)


def mean_of(answers: Answers, values: np.ndarray, counted: np.ndarray) -> Sums:
    """Mean of values [R, S] over the questions that count [R, S] or [S]."""
    counted = np.broadcast_to(counted, values.shape)
    parts = [answers.by_image(np.where(counted, values, 0.0)), answers.by_image(counted)]
    return Sums(np.stack(parts, axis=-1), ratio)


def mean_where_known(answers: Answers, column: str) -> Sums:
    """Mean of a column over the answers that have a value there."""
    values = answers.column(column).astype(float)
    return mean_of(answers, np.nan_to_num(values), np.isfinite(values))


def accuracy(answers: Answers) -> Sums:
    """Mean score; a failed sample has none and stays in the denominator."""
    return mean_of(answers, answers.score, np.ones(answers.questions, dtype=bool))


def f1(answers: Answers) -> Sums:
    """F1 of the answer yes, as POPE has it.

    Whatever is not yes to a question whose answer is yes is missed, a failed or unparseable answer too; lmms-eval leaves such
    answers out, so that its F1 is higher where there are some.

    Raises:
        ParbenchError: The data set's answers are not yes and no.
    """
    target = np.char.lower(np.char.strip(answers.column("target").astype(str)))
    if not np.isin(target, ("yes", "no")).all():
        raise ParbenchError("metric=f1 is for questions of yes and no: use metric=accuracy here")
    said_yes = np.char.lower(np.char.strip(answers.column("prediction").astype(str))) == "yes"
    asked_yes = target == "yes"
    counts = [said_yes & asked_yes, said_yes & ~asked_yes, ~said_yes & asked_yes]
    return Sums(np.stack([answers.by_image(count) for count in counts], axis=-1), _f1)


def _f1(sums: np.ndarray) -> np.ndarray:
    hit, false, missed = np.moveaxis(sums, -1, 0)
    return ratio(np.stack([2 * hit, 2 * hit + false + missed], axis=-1))


def points(answers: Answers, categories: Sequence[str] = PERCEPTION + COGNITION) -> Sums:
    """MME points: in each category 100 times accuracy plus 100 times the share of images with both questions right, summed.

    How many images a category has is fixed by the benchmark, so images are drawn within categories.

    Raises:
        ParbenchError: The images' names do not say their category, or none is among the wanted.
    """
    category = _categories(answers)
    here = [name for name in categories if name in category]
    if not here:
        raise ParbenchError(
            "MME's points need the categories that its question_id begins with (existence/..., OCR/...), and these runs have none: "
            "use metric=accuracy here"
        )
    right = answers.by_image(answers.score)
    asked = answers.by_image(np.ones(answers.questions))
    earned = 100 * (right / asked + (right == asked))
    inside = np.array([category == name for name in here], dtype=float).T
    parts = np.concatenate([earned[..., None] * inside, np.broadcast_to(inside, (*earned.shape, len(here)))], axis=-1)
    strata = np.unique(category, return_inverse=True)[1]
    return Sums(parts, _sum_of_means, strata)


def categories_there(answers: Answers) -> int:
    """How many of MME's 14 categories the questions are from."""
    return len(set(_categories(answers)) & {*PERCEPTION, *COGNITION})


def _sum_of_means(sums: np.ndarray) -> np.ndarray:
    half = sums.shape[-1] // 2
    return ratio(np.stack([sums[..., :half], sums[..., half:]], axis=-1)).sum(axis=-1)


def _categories(answers: Answers) -> np.ndarray:
    """MME's category of each image [m]: its name is ``category/file``."""
    return np.array([name.partition("/")[0] for name in answers.images])


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "accuracy", 100, 1, accuracy),
        Measure("f1", "F1", 100, 1, f1),
        Measure("points", "points (P+C)", 1, 1, points),
        Measure("perception", "points (P)", 1, 1, lambda answers: points(answers, PERCEPTION)),
        Measure("cognition", "points (C)", 1, 1, lambda answers: points(answers, COGNITION)),
    )
}
# By the score that lmms-eval calls a benchmark's own.
_OWN = {"pope_accuracy": "f1", "mme_perception_score": "points"}


def own_measure(metric: str | Sequence[str]) -> Measure:
    """What a benchmark is reported in: POPE in F1, MME in points, everything else in accuracy.

    Args:
        metric: ``dataset.metric`` of the identity.
    """
    first = metric if isinstance(metric, str) else metric[0]
    return MEASURES[_OWN.get(first, "accuracy")]


def measure_called(name: str) -> Measure:
    """A measure by its name.

    Raises:
        ParbenchError: There is none of that name.
    """
    if name not in MEASURES:
        raise unknown("metric", name, MEASURES)
    return MEASURES[name]
