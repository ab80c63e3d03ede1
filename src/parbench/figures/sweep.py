"""What the pictures are drawn from: the runs of one sweep as the table has them, each a point with its intervals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.figures.looks import group_of, look
from parbench.results.loading import Results
from parbench.results.record import SINGLE_VALUES
from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import LEVEL, Resampled, resample
from parbench.statistics.measures import Measure, mean_of, mean_where_known
from parbench.tables.comparing import Comparison, compare

# Columns of the samples that pictures need.
COLUMNS = (*(name for name in SINGLE_VALUES if name not in ("id", "unit")), "kept")
# Shares that the table gives without an interval.
_SHARES = ("irrelevant", "repeated")


@dataclass(frozen=True)
class Skills:
    """Accuracy by skill.

    Attributes:
        names: K skills.
        accuracy: Percent [R, K].
        against: Percentage points above no reduction [R, K]; NaN where there is no such run.
        clear: Whether the 95 % interval of that difference leaves zero out [R, K].
    """

    names: tuple[str, ...]
    accuracy: np.ndarray
    against: np.ndarray
    clear: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """Runs over the same questions.

    Attributes:
        points: A row a run: ``run_id``, ``label``, ``series`` (what a line connects), ``method``, ``look`` (how the method is
            drawn), ``budget``, ``tokens`` (mean delivered), ``compression`` (percent), ``gflops`` (of a sample up to the first
            token), and ``value`` of the measure, ``evidence_recall``, ``irrelevant`` and ``repeated`` (percent) with ``_low`` and
            ``_high`` of their 95 % intervals.
        comparison: The table.
        answers: The samples, run by run in the order of the points.
        runs: The frame of the runs, in the same order.
    """

    points: pd.DataFrame
    comparison: Comparison
    answers: Answers
    runs: pd.DataFrame

    @property
    def measure(self) -> Measure:
        """What ``value`` is."""
        return self.comparison.measure

    @property
    def about(self) -> str:
        """What was measured, in one line."""
        of = self.comparison
        return f"{of.model} on {of.dataset}, {of.questions:,} questions about {of.images:,} images"

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing in percent, where the measure is accuracy and that is known."""
        known = self.measure.name == "accuracy" and np.isfinite(self.comparison.chance)
        return 100 * self.comparison.chance if known else None

    @property
    def none(self) -> pd.Series | None:
        """The point without reduction."""
        found = self.points[self.points["method"] == "none"]
        return None if found.empty else found.iloc[0]

    @property
    def reduced(self) -> pd.DataFrame:
        """All other points."""
        return self.points[self.points["method"] != "none"]

    @property
    def budgets(self) -> list[float]:
        """The budgets that were asked for, the largest first."""
        return sorted(self.points["budget"].dropna().unique(), reverse=True)

    @cached_property
    def skills(self) -> Skills | None:
        """Accuracy by skill, where questions have several."""
        return _by_skill(self)


def sweep_of(results: Results, metric: str | None = None) -> Sweep:
    """The points of some runs.

    Args:
        results: With ``COLUMNS`` of the samples.
        metric: One of the table's; by default what the data set is reported in.

    Raises:
        ParbenchError: The runs differ in more than the method, or the measure is not to be had from them.
    """
    comparison = compare(results, metric)
    frame = comparison.frame
    if frame["score"].isna().all():
        raise ParbenchError(
            f"the runs on {comparison.dataset} have no scores, which the benchmark's server gives: parbench table shows what "
            f"they kept"
        )
    runs = results.runs.set_index("run_id", drop=False).loc[frame["run_id"]].reset_index(drop=True)
    answers = align(results.samples, frame["run_id"].tolist())
    points = frame[["run_id", "label", "method", "budget", "failures", "unparseable", "note"]].copy()
    points["series"] = [re.sub(r" @[\d.e+-]+", "", label, count=1) for label in points["label"]]
    told = zip(runs["method"], runs["site"], runs["control"], strict=True)
    points["look"] = pd.Series([look(method, group_of(site, control)) for method, site, control in told], dtype=object)
    points["tokens"] = frame["tokens_mean"]
    points["compression"] = 100 * frame["compression"]
    points["gflops"] = frame["flops_prefill"].astype(float) / 1e9
    for end in ("", "_low", "_high"):
        points[f"value{end}"] = comparison.measure.scale * frame[f"score{end}"]
        known = f"evidence_recall{end}" in frame
        points[f"evidence_recall{end}"] = 100 * frame[f"evidence_recall{end}"] if known else np.nan
    for name, resampled in zip(_SHARES, resample([mean_where_known(answers, name) for name in _SHARES]), strict=True):
        ends = [resampled.of(run).interval() for run in range(len(points))]
        points[name] = 100 * resampled.point
        points[f"{name}_low"], points[f"{name}_high"] = (100 * np.array(end) for end in zip(*ends, strict=True))
    return Sweep(points, comparison, answers, runs)


def _by_skill(sweep: Sweep) -> Skills | None:
    names = tuple(sweep.comparison.skills)
    if not names:
        return None
    answers, asked = sweep.answers, sweep.answers.questions_column("skill")
    resampled = resample([mean_of(answers, answers.score, asked == name) for name in names])
    accuracy = 100 * np.stack([one.point for one in resampled], axis=1)
    unreduced = np.flatnonzero(sweep.points["method"] == "none")
    if not len(unreduced):
        return Skills(names, accuracy, np.full(accuracy.shape, np.nan), np.zeros(accuracy.shape, dtype=bool))
    none = int(unreduced[0])
    clear = [[_clear(one, run, none) for one in resampled] for run in range(len(accuracy))]
    return Skills(names, accuracy, accuracy - accuracy[none], np.array(clear))


def _clear(resampled: Resampled, run: int, other: int) -> bool:
    # As an interval that leaves zero out, and where every resample gives the same difference.
    return resampled.against(run, other).p_value() < 1 - LEVEL
