"""What each exported run measured: one number with its interval, resampled over images as in tables."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.errors import ParbenchError
from parbench.results.loading import Results
from parbench.statistics.answers import align
from parbench.statistics.bootstrap import resample
from parbench.statistics.measures import Measure, own_measure

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measured:
    """A run to be exported.

    Attributes:
        run: Its row of ``load(...).runs``, by column.
        samples: Its rows of ``load(...).samples``.
        measure: What its benchmark is reported in: accuracy, F1 or points.
        value: The measure, accuracy and F1 in 0..1.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
        questions: How many the measure is over.
    """

    run: dict[str, Any]
    samples: pd.DataFrame
    measure: Measure
    value: float
    low: float
    high: float
    questions: int

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.low)

    @property
    def budget(self) -> float | None:
        """Visual tokens of an image that were asked for; None for the method's own rule."""
        return None if math.isnan(self.run["budget"]) else self.run["budget"]


def measured(results: Results) -> list[Measured]:
    """Every run that has scores.

    Args:
        results: The runs, with all columns of their samples.

    Raises:
        ParbenchError: No run has scores: a benchmark's server gives them.
    """
    found = list(_scored(results))
    if not found:
        raise ParbenchError(
            f"none of these {len(results.runs)} runs has scores, which the benchmark's server gives: there is nothing to export"
        )
    return found


def _scored(results: Results) -> Iterator[Measured]:
    for row in results.runs.to_dict("records"):
        run = {str(column): value for column, value in row.items()}
        if math.isnan(run["accuracy"]):
            _log.warning(f"left out: {run['label']} ({run['run_id']}) on {run['dataset']}, which has no scores")
            continue
        answers = align(results.samples, [run["run_id"]])
        measure = own_measure(run["dataset.metric"])
        (drawn,) = resample([measure.sums(answers)])
        estimate = drawn.of(0)
        mine = results.samples[results.samples["run_id"] == run["run_id"]]
        yield Measured(run, mine, measure, estimate.point, *estimate.interval(), answers.questions)
