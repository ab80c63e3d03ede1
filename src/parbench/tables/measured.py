"""Runs of one model on the same questions with their resamples, from which further comparisons are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.results.loading import Results
from parbench.results.naming import series_name
from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import DRAWS, Resampled, resample
from parbench.statistics.measures import Measure, mean_of
from parbench.tables.alike import measure_for, refuse_mixture

# Columns of the samples that are needed.
COLUMNS = ("image_id", "skill", "prediction", "target", "score", "error", "frames")
# What is told where the answer can be seen is no rival of methods that have to find out.
TOLD = ("oracle",)


@dataclass(frozen=True)
class Measured:
    """Runs of one model on the same questions.

    Attributes:
        runs: One row per run, R in all, with ``series``, the label without its budget. Of runs with the same label the first.
        answers: Their answers, in the order of the rows.
        measure: The measure of ``score``.
        score: That measure with its resamples.
        seed: Seed of the resamples.
    """

    runs: pd.DataFrame
    answers: Answers
    measure: Measure
    score: Resampled
    seed: int

    @property
    def about(self) -> str:
        """Model, data set, and numbers of questions and images, in one line."""
        of = self.runs.iloc[0]
        asked = f"{self.answers.questions:,} questions about {len(self.answers.images):,} {self.answers.visual}s"
        return f"`{of['model']}` on `{of['dataset']}` ({of['dataset.split']}), {asked}"

    @property
    def points(self) -> pd.DataFrame:
        """Name, method and budget of each run, in the order of the rows."""
        return self.runs[["run_id", "method", "budget"]]

    @property
    def none(self) -> int:
        """The place of the unreduced run.

        Raises:
            ParbenchError: There is none.
        """
        found = np.flatnonzero(self.runs["method"] == "none")
        if not len(found):
            raise ParbenchError(
                f"the runs of {self.runs['model'].iloc[0]} lack the unreduced one (none), which retained accuracy needs"
            )
        return int(found[0])

    @property
    def budgets(self) -> list[float]:
        """The budgets of the runs, largest first."""
        return sorted(map(float, self.runs["budget"].dropna().unique()), reverse=True)

    def at(self, budget: float, *, trained: bool | None = None) -> list[int]:
        """Places of the reduced runs at a budget, without those that are told the answer.

        Args:
            budget: The budget.
            trained: Whether the runs are of learned methods; None for both kinds.
        """
        runs = self.runs
        wanted = (runs["budget"] == budget) & ~runs["method"].isin(("none", *TOLD))
        if trained is not None:
            wanted &= runs["trained"].notna() == trained
        return np.flatnonzero(wanted).tolist()

    def place(self, series: str, budget: float) -> int | None:
        """The place of a method's run at a budget; None if there is none."""
        found = np.flatnonzero((self.runs["series"] == series) & (self.runs["budget"] == budget))
        return int(found[0]) if len(found) else None

    @cached_property
    def skills(self) -> dict[str, Resampled]:
        """Accuracy by skill with its resamples; empty if the questions do not have several skills."""
        asked = self.answers.questions_column("skill")
        names = sorted(map(str, pd.unique(pd.Series(asked).dropna())))
        if len(names) < 2:
            return {}
        sums = [mean_of(self.answers, self.answers.score, asked == name) for name in names]
        return dict(zip(names, resample(sums, len(self.score.draws[0]), self.seed), strict=True))


def measured(results: Results, metric: str | None = None, *, seed: int = 0, draws: int = DRAWS) -> Measured:
    """The runs with their resamples.

    Args:
        results: Runs that differ only in the method, with ``COLUMNS`` of their samples.
        metric: One of ``MEASURES``; None for the one in which the data set is reported.
        seed: Seed of the resamples. The same seed gives runs about the same images the same draws.
        draws: Number of resamples.

    Raises:
        ParbenchError: The runs differ in other fields, have no scores, or lack the measure.
    """
    refuse_mixture(results.runs)
    runs = results.runs.drop_duplicates("label").reset_index(drop=True)
    answers = align(results.samples, runs["run_id"].tolist())
    if not np.isfinite(answers.score).all():
        raise ParbenchError(
            f"the runs on {runs['dataset'].iloc[0]} have no scores, since only the benchmark's server has the answers"
        )
    measure, _ = measure_for(answers, metric, runs["dataset.metric"].iloc[0])
    runs["series"] = [series_name(label) for label in runs["label"]]
    [score] = resample([measure.sums(answers)], draws, seed)
    return Measured(runs, answers, measure, score, seed)


def some(of: Resampled, places: list[int]) -> Resampled:
    """The resamples of some runs only."""
    return replace(of, point=of.point[places], draws=of.draws[places], freedom=of.freedom[places])
