"""The data of figures: one point per run of a sweep, with intervals, consistent with the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.figures.looks import group_of, look
from parbench.results.frames import ALWAYS
from parbench.results.loading import Results
from parbench.results.naming import series_name
from parbench.results.record import SINGLE_VALUES
from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import LEVEL, Resampled, resample
from parbench.statistics.measures import Measure, mean_of, mean_where_known
from parbench.tables.comparing import Comparison, compare

# Columns of the samples that figures need.
COLUMNS = (*(name for name in SINGLE_VALUES if name not in ("id", *ALWAYS)), "kept", "frames", "clip_seconds")
# Shares that have no interval in the table.
_SHARES = ("irrelevant", "repeated")


@dataclass(frozen=True)
class Skills:
    """Accuracy by skill.

    Attributes:
        names: The K skills.
        accuracy: [R, K] accuracy of each run in percent.
        against: [R, K] difference from none in percentage points; NaN without a run of none.
        clear: [R, K] whether the 95 % interval of that difference excludes zero.
    """

    names: tuple[str, ...]
    accuracy: np.ndarray
    against: np.ndarray
    clear: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """Runs over the same questions.

    Attributes:
        points: One row per run: ``run_id``, ``label``, ``series`` (the label without budget; a line connects its runs),
            ``method``, ``look`` (see :class:`Look`), ``budget``, ``tokens`` (mean kept), ``compression`` (percent), ``gflops``
            (per sample, up to the first token), ``rate`` (mean kept tokens a second of video; NaN if no run says how long videos
            are), and with ``_low`` and ``_high`` of their 95 % intervals: ``value`` (of the
            measure), ``evidence_recall``, ``evidence_recall_any``, ``irrelevant`` and ``repeated`` (percent).
        comparison: The table.
        answers: The samples of the runs, in the order of the points.
        runs: The frame of the runs, in the order of the points.
    """

    points: pd.DataFrame
    comparison: Comparison
    answers: Answers
    runs: pd.DataFrame

    @property
    def measure(self) -> Measure:
        """The measure of ``value``."""
        return self.comparison.measure

    @property
    def about(self) -> str:
        """Model, data set, and numbers of questions and of images or clips, in one line."""
        of = self.comparison
        return f"{of.model} on {of.dataset}, {of.questions:,} questions about {of.images:,} {of.visual}s"

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing in percent; None if it is unknown or the measure is not accuracy."""
        known = self.measure.name == "accuracy" and np.isfinite(self.comparison.chance)
        return 100 * self.comparison.chance if known else None

    @property
    def none(self) -> pd.Series | None:
        """The point of the unreduced run; None if there is none."""
        found = self.points[self.points["method"] == "none"]
        return None if found.empty else found.iloc[0]

    @property
    def reduced(self) -> pd.DataFrame:
        """The points of reduced runs."""
        return self.points[self.points["method"] != "none"]

    @property
    def budgets(self) -> list[float]:
        """The budgets of the runs, largest first."""
        return sorted(self.points["budget"].dropna().unique(), reverse=True)

    @cached_property
    def skills(self) -> Skills | None:
        """Accuracy by skill; None if the questions do not have several skills."""
        return _by_skill(self)


def sweep_of(results: Results, metric: str | None = None) -> Sweep:
    """Compare runs and compute their points.

    Args:
        results: The runs, with ``COLUMNS`` of their samples.
        metric: A metric of the table; None for the one in which the data set is reported.

    Raises:
        ParbenchError: The runs differ in more than the method, have no scores, or lack the metric.
    """
    comparison = compare(results, metric)
    frame = comparison.frame
    if frame["score"].isna().all():
        raise ParbenchError(
            f"the runs on {comparison.dataset} have no scores, since only the benchmark's server has the answers: "
            "use parbench table for tokens and costs"
        )
    runs = results.runs.set_index("run_id", drop=False).loc[frame["run_id"]].reset_index(drop=True)
    answers = align(results.samples, frame["run_id"].tolist())
    points = frame[["run_id", "label", "method", "budget", "failures", "unparseable", "note"]].copy()
    points["series"] = [series_name(label) for label in points["label"]]
    told = zip(runs["method"], runs["site"], runs["control"], strict=True)
    points["look"] = pd.Series([look(method, group_of(site, control)) for method, site, control in told], dtype=object)
    points["tokens"] = frame["tokens_mean"]
    points["compression"] = 100 * frame["compression"]
    points["gflops"] = frame["flops_prefill"].astype(float) / 1e9
    points["rate"] = _rates(answers, points["run_id"])
    for end in ("", "_low", "_high"):
        points[f"value{end}"] = comparison.measure.scale * frame[f"score{end}"]
        for name in ("evidence_recall", "evidence_recall_any"):
            known = f"{name}{end}" in frame
            points[f"{name}{end}"] = 100 * frame[f"{name}{end}"] if known else np.nan
    for name, resampled in zip(_SHARES, resample([mean_where_known(answers, name) for name in _SHARES]), strict=True):
        ends = [resampled.of(run).interval() for run in range(len(points))]
        points[name] = 100 * resampled.point
        points[f"{name}_low"], points[f"{name}_high"] = (100 * np.array(end) for end in zip(*ends, strict=True))
    return Sweep(points, comparison, answers, runs)


def _rates(answers: Answers, runs: pd.Series) -> np.ndarray:
    """[R] mean kept tokens a second of video; NaN where a question shows an image, or its seconds are not known."""
    answered = answers.frame[answers.frame["error"].isna()]
    known = answered["clip_seconds"].map(lambda found: isinstance(found, list) and None not in found)
    if answered.empty or not known.all():
        return np.full(len(runs), np.nan)
    summed = answered.assign(seconds=answered["clip_seconds"].map(sum)).groupby("run_id")[["tokens_kept", "seconds"]].sum()
    return (summed["tokens_kept"] / summed["seconds"]).reindex(runs).to_numpy(dtype=float)


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
    # The p-value also works if all resamples give the same difference, where the interval has no width.
    return resampled.against(run, other).p_value() < 1 - LEVEL
