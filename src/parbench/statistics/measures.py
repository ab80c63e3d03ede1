"""Measures as functions of sums over images, so that they can be resampled by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from parbench.errors import ParbenchError, unknown
from parbench.results.official import PERCEPTION
from parbench.statistics.answers import Answers

# MME's cognition subtasks.
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


@dataclass(frozen=True)
class Sums:
    """A measure of R runs, before summing over images.

    Attributes:
        parts: [R, m, d] the summands of each image.
        value: Maps sums over images [..., d] to the measure [...]. Homogeneous of degree 0, so weights need not be normalised.
        strata: [m] stratum of each image, if the benchmark fixes the number of images per stratum; else None.
    """

    parts: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]
    strata: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))

    @property
    def point(self) -> np.ndarray:
        """The measure of each run, [R]; NaN if undefined."""
        return self.value(self.parts.sum(axis=1))

    @property
    def freedom(self) -> np.ndarray:
        """Degrees of freedom, [R]: images that contribute, minus one per stratum."""
        used = (self.parts != 0).any(axis=2)
        strata = np.array([len(np.unique(self.strata[row])) for row in used]) if len(self.strata) else 1
        images: np.ndarray = used.sum(axis=1) - strata
        return images


@dataclass(frozen=True)
class Measure:
    """A measure and its presentation in tables.

    Attributes:
        name: Name in options and columns.
        title: Title in table headers.
        scale: Factor for display.
        digits: Decimal digits.
        sums: Maps answers to sums.
    """

    name: str
    title: str
    scale: float
    digits: int
    sums: Callable[[Answers], Sums]


def ratio(sums: np.ndarray) -> np.ndarray:
    """First sum over second; NaN for division by zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] != 0, sums[..., 0] / sums[..., 1], np.nan)


def mean_of(answers: Answers, values: np.ndarray, counted: np.ndarray) -> Sums:
    """Mean of values [R, S] over the questions in ``counted``, [R, S] or [S] bool."""
    counted = np.broadcast_to(counted, values.shape)
    parts = [answers.by_image(np.where(counted, values, 0.0)), answers.by_image(counted)]
    return Sums(np.stack(parts, axis=-1), ratio)


def mean_where_known(answers: Answers, column: str) -> Sums:
    """Mean of a column over the answers that have a value."""
    values = answers.column(column).astype(float)
    return mean_of(answers, np.nan_to_num(values), np.isfinite(values))


def accuracy(answers: Answers) -> Sums:
    """Mean score; a failed sample scores 0."""
    return mean_of(answers, answers.score, np.ones(answers.questions, dtype=bool))


def f1(answers: Answers) -> Sums:
    """F1 of the answer yes, as in POPE.

    Any answer but yes to a question whose answer is yes is a miss, including failed and unparseable ones. lmms-eval does not count
    these as misses, so its F1 is higher if there are any.

    Raises:
        ParbenchError: The data set's answers are not yes and no.
    """
    target = np.char.lower(np.char.strip(answers.column("target").astype(str)))
    if not np.isin(target, ("yes", "no")).all():
        raise ParbenchError("metric=f1 needs yes/no questions: use metric=accuracy")
    said_yes = np.char.lower(np.char.strip(answers.column("prediction").astype(str))) == "yes"
    asked_yes = target == "yes"
    counts = [said_yes & asked_yes, said_yes & ~asked_yes, ~said_yes & asked_yes]
    return Sums(np.stack([answers.by_image(count) for count in counts], axis=-1), _f1)


def _f1(sums: np.ndarray) -> np.ndarray:
    hit, false, missed = np.moveaxis(sums, -1, 0)
    return ratio(np.stack([2 * hit, 2 * hit + false + missed], axis=-1))


def points(answers: Answers, categories: Sequence[str] = PERCEPTION + COGNITION) -> Sums:
    """MME points: in each category, 100 times accuracy plus 100 times the share of images with both questions correct; summed.

    The benchmark fixes the number of images per category, so images are drawn within categories.

    Raises:
        ParbenchError: The names of the images do not contain their category, or none of ``categories`` occurs.
    """
    category = _categories(answers)
    here = [name for name in categories if name in category]
    if not here:
        raise ParbenchError(
            "MME's points need question_ids that begin with their category (existence/..., OCR/...), which these runs lack: "
            "use metric=accuracy"
        )
    right = answers.by_image(answers.score)
    asked = answers.by_image(np.ones(answers.questions))
    earned = 100 * (right / asked + (right == asked))
    inside = np.array([category == name for name in here], dtype=float).T
    parts = np.concatenate([earned[..., None] * inside, np.broadcast_to(inside, (*earned.shape, len(here)))], axis=-1)
    strata = np.unique(category, return_inverse=True)[1]
    return Sums(parts, _sum_of_means, strata)


def categories_there(answers: Answers) -> int:
    """Number of MME's 14 categories among the questions."""
    return len(set(_categories(answers)) & {*PERCEPTION, *COGNITION})


def _sum_of_means(sums: np.ndarray) -> np.ndarray:
    half = sums.shape[-1] // 2
    found: np.ndarray = ratio(np.stack([sums[..., :half], sums[..., half:]], axis=-1)).sum(axis=-1)
    return found


def _categories(answers: Answers) -> np.ndarray:
    """[m] MME's category of each image, from its name ``category/file``."""
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
# By lmms-eval's name of the benchmark's metric.
_OWN = {"pope_accuracy": "f1", "mme_perception_score": "points"}


def own_measure(metric: str | Sequence[str]) -> Measure:
    """The measure in which a benchmark is reported: F1 for POPE, points for MME, accuracy for all others.

    Args:
        metric: ``dataset.metric`` of the run's identity.
    """
    first = metric if isinstance(metric, str) else metric[0]
    return MEASURES[_OWN.get(first, "accuracy")]


def measure_called(name: str) -> Measure:
    """A measure by its name.

    Raises:
        ParbenchError: There is no measure of that name.
    """
    if name not in MEASURES:
        raise unknown("metric", name, MEASURES)
    return MEASURES[name]
