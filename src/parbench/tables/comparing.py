"""Comparison of runs on the same questions: one row per run, with intervals, differences and tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.results.comparable import differing
from parbench.results.controls import compared_with
from parbench.results.delivery import FAR
from parbench.results.loading import Results
from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import LEVEL, Estimate, Resampled, resample
from parbench.statistics.measures import (
    COGNITION,
    MEASURES,
    PERCEPTION,
    Measure,
    Sums,
    categories_there,
    mean_of,
    mean_where_known,
    measure_called,
    own_measure,
)
from parbench.statistics.power import detectable, difference_error
from parbench.statistics.significance import flips, holm
from parbench.tables.computed_by import check_same_code, code_notes
from parbench.tables.failures import failures
from parbench.tables.turns import LATER, turn_costs, turn_sums, turns_beside

# Columns of the samples that a comparison needs.
COLUMNS = ("image_id", "skill", "prediction", "target", "score", "error", "evidence_recall", "evidence_recall_any")
# Columns that are copied unchanged.
_KEPT = (
    "run_id",
    "label",
    "quantization",
    "method",
    "budget",
    "per",
    "n",
    "failures",
    "unparseable",
    "tokens_mean",
    "tokens_std",
    "tokens_min",
    "tokens_max",
    "compression",
    "irrelevant",
    "repeated",
    "flops_vision",
    "flops_projector",
    "flops_reducer",
    "flops_llm_prefill",
    "flops_decode",
    "flops_total",
    "flops_prefill",
    "seconds",
    "stages",
    "measures",
    "trained",
    "official",
    "note",
    "off_budget",
    "found_on",
    "control",
)


_QUANTIZED = "differences are from the first none; controls are quantised like the method"


@dataclass(frozen=True)
class Comparison:
    """Runs of one model on one data set.

    Attributes:
        frame: One row per run. ``score`` is the value of the measure, ``X_low`` and ``X_high`` are the ends of X's 95 % interval,
            ``X_p`` and ``X_p_holm`` the p-values for X being zero, before and after correction over the rows of a budget.
        measure: The measure of ``score``.
        model: Name of the model.
        dataset: Name and split of the data set.
        questions: Number of questions.
        images: Number of images.
        chance: Accuracy of guessing; NaN if unknown.
        skills: Questions by skill.
        notes: Footnotes, in addition to those of the methods.
        controls: Names of the controls with which methods are compared.
        block: What its rows have in common, if they are only some of the runs; empty for all of them.
    """

    frame: pd.DataFrame
    measure: Measure
    model: str
    dataset: str
    questions: int
    images: int
    chance: float
    skills: dict[str, int]
    notes: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    block: str = ""

    @property
    def blocks(self) -> list[Comparison]:
        """The rows of methods without training, and those of learned methods by where their weights come from, each with none."""
        learned, none = self.frame["trained"].notna(), self.frame["method"] == "none"
        if not learned.any():
            return [self]
        said = self.frame["trained"].map(lambda about: about["said"], na_action="ignore")
        parts = [self._part(none | (said == one), _heading(self.frame[said == one])) for one in said.dropna().unique()]
        return [self._part(~learned, ""), *parts] if (~learned & ~none).any() else parts

    def _part(self, rows: pd.Series, block: str) -> Comparison:
        return replace(self, frame=self.frame[rows].reset_index(drop=True), block=block)


def _heading(rows: pd.DataFrame) -> str:
    """Where the weights of learned methods come from, and from how many trainings of each, as far as these rows show."""
    seeds: dict[str, set[int]] = {}
    for method, about in zip(rows["method"], rows["trained"], strict=True):
        seeds.setdefault(method, set()).add(about["seed"])
    counts = ", ".join(f"{method} {len(own)} training seed{'s' * (len(own) > 1)}" for method, own in seeds.items())
    return f"{rows['trained'].iloc[0]['said']} ({counts})"


def compare(
    results: Results,
    metric: str | None = None,
    labels: Mapping[str, str] | None = None,
    *,
    quantized: bool = False,
    strict: bool = False,
) -> Comparison:
    """Compare runs that differ only in the method.

    Args:
        results: The runs, with at least ``COLUMNS`` of their samples.
        metric: One of ``MEASURES``; None for the one in which the data set is reported.
        labels: Labels of runs, by id; default: method and budget.
        quantized: Whether runs may differ in quantisation.
        strict: Whether to refuse runs computed by different code or devices, instead of adding a footnote.

    Raises:
        ParbenchError: The runs differ in other fields, or the measure is not available for them.
    """
    runs = results.runs.reset_index(drop=True)
    refuse_mixture(runs, ("quantization",) if quantized else ())
    if strict:
        check_same_code(runs)
    answers = align(results.samples, runs["run_id"].tolist())
    measure, notes = measure_for(answers, metric, runs["dataset.metric"][0])
    skills = _skills(answers)
    own = ["own_tokens"] if runs["own_tokens"].notna().any() else []
    own += ["turns"] if "turns" in runs else []
    frame = runs[[*_KEPT, *own]].copy()
    frame["label"] = [
        f"{given} {kind}".rstrip() if (given := (labels or {}).get(run)) else label
        for run, label, kind in zip(runs["run_id"], runs["label"], runs["quantization"], strict=True)
    ]
    frame["far_off_budget"] = frame["off_budget"].abs() > FAR
    table = _Table(frame, answers, measure, skills, turns_beside(runs))
    split, first = runs["dataset.split"][0], runs.iloc[0]
    several = runs["quantization"].nunique() > 1
    model = first["identity"]["model"] if several else first["model"]
    notes = (*notes, *([_QUANTIZED] if several else []))
    return Comparison(
        table.build(),
        measure,
        model,
        f"{first['dataset']} ({split})",
        answers.questions,
        len(answers.images),
        float(first["chance"]),
        skills,
        (*notes, *failures(results.samples, frame), *_several(frame), *code_notes(runs)),
        compared_with(frame),
    )


def _several(frame: pd.DataFrame) -> list[str]:
    """Footnotes for controls with several runs at a budget."""
    compared = frame[frame["method"].isin(("none", *compared_with(frame)))]
    again = compared[compared.duplicated(["method", "budget", "per", "quantization"])]["method"].unique()
    return [f"{method}: several runs at a budget; differences are from the first" for method in again]


def refuse_mixture(runs: pd.DataFrame, beside: Sequence[str] = ()) -> None:
    """Refuse runs that differ in other fields than the method and the blocks ``beside``.

    Raises:
        ParbenchError: They do. The message names fields, values and how to choose.
    """
    apart = differing(runs["identity"].tolist(), beside)
    if not apart:
        return
    said = []
    for key, values in list(apart.items())[:3]:
        counts = ", ".join(
            f"{_short(value)} in {count}" for value, count in sorted(values.items(), key=lambda item: (-item[1], item[0]))[:4]
        )
        said.append(f"{key} ({counts})")
    more = f" and {len(apart) - 3} more fields" if len(apart) > 3 else ""
    key, values = next(iter(apart.items()))
    example = _short(min(values, key=lambda value: (-values[value], value)))
    raise ParbenchError(
        f"these {len(runs)} runs cannot be in one table, since they differ in {'; '.join(said)}{more}: choose, for example with "
        f"{key}={example}"
    )


def _short(value: str) -> str:
    """Abbreviate a hash to its beginning."""
    return value[:12] if len(value) == 64 else value


def measure_for(answers: Answers, metric: str | None, declared: str) -> tuple[Measure, tuple[str, ...]]:
    """The measure, and a footnote if it is not the one in which the data set is reported.

    Args:
        answers: The answers to be measured.
        metric: One of ``MEASURES``; None for the one in which the data set is reported.
        declared: ``dataset.metric`` of the runs' identity.

    Raises:
        ParbenchError: There is no such measure.
    """
    if metric is not None:
        return measure_called(metric), ()
    own = own_measure(declared)
    try:
        own.sums(answers)
    except ParbenchError as error:
        return MEASURES["accuracy"], (f"accuracy instead of {own.title}: {error}",)
    there, every = categories_there(answers), len(PERCEPTION + COGNITION)
    if own.name == "points" and there < every:
        return own, (f"points over {there} of MME's {every} categories",)
    return own, ()


def _skills(answers: Answers) -> dict[str, int]:
    """Number of questions by skill; empty for a single skill."""
    counts = pd.Series(answers.questions_column("skill")).dropna().value_counts().sort_index()
    return {str(skill): int(count) for skill, count in counts.items()} if len(counts) > 1 else {}


class _Table:
    """Adds all columns that are computed from samples to a frame of runs."""

    def __init__(
        self, frame: pd.DataFrame, answers: Answers, measure: Measure, skills: Mapping[str, int], anew: Sequence[int | None]
    ) -> None:
        self.frame, self.answers, self.anew = frame, answers, anew
        self.columns: dict[str, list[Any]] = {}
        # Runs with unquantised weights come first.
        self.none = next(iter(np.flatnonzero(frame["method"] == "none")), None)
        self.hard = self._hard()
        self.sums = self._sums(measure, skills)
        self.resampled = dict(zip(self.sums, resample(list(self.sums.values())), strict=True))

    def build(self) -> pd.DataFrame:
        """The frame with all columns, unreduced first, then sorted by budget and score."""
        for name in self.sums:
            self._estimates(name, [self.resampled[name].of(row) for row in self.rows])
        self.columns["hard_n"] = [int(mask.sum()) if self.none is not None else 0 for mask in self.hard]
        self.columns |= turn_costs(self.answers)
        self._against_none()
        self._against_each()
        for control in compared_with(self.frame):
            others = [self._at_budget(control, row) for row in self.rows]
            if any(other is not None for other in others):
                self._difference(f"delta_{control}", others)
        self.columns["best"] = self._best()
        frame = pd.concat([self.frame, pd.DataFrame(self.columns, index=self.frame.index)], axis=1)
        order = frame.assign(reduced=frame["method"] != "none")
        by = ["learned", "reduced", "budget", "score", "label"]
        order = order.assign(learned=self.learned).sort_values(by, ascending=[True, True, False, False, True], na_position="last")
        return order.drop(columns=["learned", "reduced"]).reset_index(drop=True)

    @property
    def learned(self) -> pd.Series:
        """Whether each run is of a learned method. These are a family of their own in tests."""
        return self.frame["trained"].notna()

    @property
    def rows(self) -> range:
        """Indices of the runs."""
        return range(len(self.frame))

    @property
    def main(self) -> Resampled:
        """The measure with its resamples."""
        return self.resampled["score"]

    def _sums(self, measure: Measure, skills: Mapping[str, int]) -> dict[str, Sums]:
        answers, score = self.answers, self.answers.score
        sums = {"score": measure.sums(answers)}
        if measure.name != "accuracy":
            sums["accuracy"] = MEASURES["accuracy"].sums(answers)
        if self.none is not None and self.hard.any():
            sums["hard"] = mean_of(answers, score, self.hard)
        skill = answers.questions_column("skill")
        sums |= {f"skill_{name}": mean_of(answers, score, skill == name) for name in skills}
        sums |= turn_sums(answers)
        for name in ("evidence_recall", "evidence_recall_any"):
            if np.isfinite(answers.column(name).astype(float)).any():
                sums[name] = mean_where_known(answers, name)
        return sums

    def _hard(self) -> np.ndarray:
        """[R, S] bool: for each run, the questions that none answers and downsample at its budget does not."""
        right = self.answers.right
        masks = np.zeros_like(right)
        for row in self.rows:
            small = self._at_budget("downsample", row, itself=True)
            if self.none is not None and small is not None:
                masks[row] = right[self.none] & ~right[small]
        return masks

    def _at_budget(self, method: str, row: int, *, itself: bool = False) -> int | None:
        """The first run of a method at the budget of a run, other than that run itself."""
        budget = self.frame["budget"].iloc[row]
        same = (self.frame["method"] == method) & (self.frame["budget"] == budget)
        same &= self.frame["per"] == self.frame["per"].iloc[row]
        same &= self.frame["quantization"] == self.frame["quantization"].iloc[row]
        return next((int(other) for other in np.flatnonzero(same) if itself or other != row), None)

    def _estimates(self, name: str, estimates: list[Estimate | None]) -> None:
        """Add a column of values with their intervals."""
        nothing = (float("nan"), float("nan"))
        ends = [estimate.interval(LEVEL) if estimate else nothing for estimate in estimates]
        self.columns[name] = [estimate.point if estimate else float("nan") for estimate in estimates]
        self.columns[f"{name}_low"] = [low for low, _ in ends]
        self.columns[f"{name}_high"] = [high for _, high in ends]

    def _compared(self, others: list[int | None], function: Callable[..., np.ndarray]) -> list[Estimate | None]:
        return [
            None if other is None else self.main.against(row, other, function) for row, other in zip(self.rows, others, strict=True)
        ]

    def _difference(self, name: str, others: list[int | None]) -> None:
        """Add the difference of each run from another one, with p before and after correction over the runs of a budget."""
        found = self._compared(others, np.subtract)
        self._estimates(name, found)
        self._p_values(name, [estimate.p_value() if estimate else float("nan") for estimate in found])

    def _p_values(self, name: str, values: list[float]) -> None:
        self.columns[f"{name}_p"] = values
        corrected = np.full(len(values), np.nan)
        for _, family in self.frame.groupby(["budget", "per", self.learned], dropna=False):
            rows = family.index.to_numpy()
            corrected[rows] = holm([values[row] for row in rows])
        self.columns[f"{name}_p_holm"] = corrected.tolist()

    def _against_none(self) -> None:
        none = self.none
        if none is None:
            return
        others = [None if row == none else int(none) for row in self.rows]
        self._difference("delta_none", others)
        self._estimates("retained", self._compared(others, np.divide))
        self.columns["saved"] = (1 - self.frame["flops_prefill"] / self.frame["flops_prefill"].iloc[none]).tolist()
        sums = self.sums["score"]
        freedom = sums.freedom
        self.columns["mde"] = [
            float("nan")
            if other is None
            else detectable(difference_error(sums, row, other), int(min(freedom[row], freedom[other])))
            for row, other in zip(self.rows, others, strict=True)
        ]
        right = self.answers.right
        found = [None if other is None else flips(right[row], right[other]) for row, other in zip(self.rows, others, strict=True)]
        self.columns["broken"] = [flip.broken if flip else 0 for flip in found]
        self.columns["fixed"] = [flip.fixed if flip else 0 for flip in found]
        self._p_values("flips", [flip.p if flip else float("nan") for flip in found])

    def _against_each(self) -> None:
        """Add the difference in later turns from the same method that chooses its tokens anew for every turn."""
        if LATER not in self.resampled or not any(other is not None for other in self.anew):
            return
        later = self.resampled[LATER]
        found = [None if other is None else later.against(row, other) for row, other in zip(self.rows, self.anew, strict=True)]
        self._estimates("delta_each", found)
        self._p_values("delta_each", [estimate.p_value() if estimate else float("nan") for estimate in found])

    def _best(self) -> list[bool]:
        """Whether each run is significantly better than every other run of its budget, after correction."""
        best = [False] * len(self.frame)
        for _, family in self.frame[self.frame["budget"].notna()].groupby(["budget", "per", self.learned]):
            rows = family.index.tolist()
            if len(rows) < 2:
                continue
            first = max(rows, key=lambda row: self.main.point[row])
            against = [self.main.against(first, row).p_value() for row in rows if row != first]
            best[first] = all(p < 1 - LEVEL for p in holm(against))
        return best
