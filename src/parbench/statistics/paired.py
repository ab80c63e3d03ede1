"""Differences between two runs over the same questions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parbench.errors import ParbenchError

_DRAWS = 10_000


@dataclass(frozen=True)
class Difference:
    """One run's accuracy minus another's, in 0..1.

    Attributes:
        mean: The difference.
        low: Lower end of its interval.
        high: Upper end.
        questions: Over so many.
        images: About so many images.
    """

    mean: float
    low: float
    high: float
    questions: int
    images: int


def paired_difference(
    one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]], level: float = 0.95
) -> Difference:
    """Mean difference of scores with a percentile interval from the paired bootstrap.

    Images are drawn with all their questions, since questions about one image are not independent of one another.

    Args:
        one: Lines of ``samples.jsonl``; ``id``, ``image_id`` and ``score`` are read.
        other: Those of the run that is subtracted.
        level: Share of the bootstrap's differences inside the interval.

    Raises:
        ParbenchError: The runs do not hold the same questions.
    """
    scores = {line["id"]: line["score"] for line in other}
    if len(one) != len(scores) or any(line["id"] not in scores for line in one):
        raise ParbenchError("the runs do not hold the same questions: compare runs of one data set with one limit")
    images: dict[str, list[float]] = defaultdict(list)
    for line in one:
        images[line["image_id"]].append(line["score"] - scores[line["id"]])
    total = np.array([sum(values) for values in images.values()])
    count = np.array([len(values) for values in images.values()])
    drawn = np.random.default_rng(0).multinomial(len(total), np.full(len(total), 1 / len(total)), size=_DRAWS)
    means = (drawn @ total) / (drawn @ count)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(total.sum() / count.sum()), float(low), float(high), int(count.sum()), len(total))
