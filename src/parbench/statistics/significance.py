"""Differences between runs put to the test: flips of answers, and many comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest


@dataclass(frozen=True)
class Flips:
    """Questions that one run answers otherwise than the one it is compared with.

    Attributes:
        broken: Right before, wrong now.
        fixed: Wrong before, right now.
        p: McNemar's exact test: two-sided, that both are equally likely. It takes questions as independent of one another.
    """

    broken: int
    fixed: int
    p: float


def flips(right: np.ndarray, before: np.ndarray) -> Flips:
    """Flips from one run's right answers to another's [S], [S]."""
    broken, fixed = int((before & ~right).sum()), int((~before & right).sum())
    return Flips(broken, fixed, float(binomtest(broken, broken + fixed).pvalue) if broken + fixed else 1.0)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979); NaN stays and does not count."""
    values = np.asarray(p_values, dtype=float)
    there = np.flatnonzero(np.isfinite(values))
    order = there[np.argsort(values[there], kind="stable")]
    corrected = values.copy()
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return corrected.tolist()
