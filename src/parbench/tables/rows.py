"""The columns of a comparison that are computed from samples: values with intervals, differences, tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from parbench.results.controls import compared_with
from parbench.statistics.answers import Answers
from parbench.statistics.bootstrap import LEVEL, Estimate, Resampled, resample
from parbench.statistics.measures import MEASURES, Measure, Sums, mean_of, mean_where_known
from parbench.statistics.power import detectable, difference_error
from parbench.statistics.significance import flips, holm
from parbench.tables.turns import LATER, turn_costs, turn_sums


class Rows:
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
