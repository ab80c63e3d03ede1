"""Significance tests: McNemar's test of changed answers, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Flips:
    """Questions whose answers change between two runs.

    Attributes:
        broken: Number that are correct in the reference run and wrong in this one.
        fixed: Number that are wrong in the reference run and correct in this one.
        p: Two-sided p-value of McNemar's exact test, for both being equally likely. It treats questions as independent.
    """

    broken: int
    fixed: int
    p: float


def flips(right: np.ndarray, before: np.ndarray) -> Flips:
    """Compare the correct answers of a run, [S] bool, with those of the reference run ``before``, [S] bool."""
    broken, fixed = int((before & ~right).sum()), int((~before & right).sum())
    return Flips(broken, fixed, float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values with Holm's correction (1979). NaN stays NaN and does not count."""
    values = np.asarray(p_values, dtype=float)
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    corrected = values.copy()
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    found: list[float] = corrected.tolist()
    return found
