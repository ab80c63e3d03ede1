"""Minimum detectable effects."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from parbench.statistics.measures import Sums

_STEP = 1e-4


def difference_error(sums: Sums, run: int, other: int) -> float:
    """Standard error of the difference of two runs, clustered by image.

    With u_i the derivative of the difference with respect to the weight of image i, it is sqrt(sum over strata of m_h / (m_h - 1)
    times sum of u_i^2). For accuracies this is the standard error of regression with clustered errors (CR1). NaN for one image.
    """
    spread = _influence(sums, run) - _influence(sums, other)
    strata = sums.strata if len(sums.strata) else np.zeros(len(spread), dtype=int)
    total = 0.0
    for stratum in np.unique(strata):
        mine = spread[strata == stratum]
        if len(mine) > 1:
            total += len(mine) / (len(mine) - 1) * float((mine**2).sum())
    return float(np.sqrt(total)) if sums.freedom[run] >= 1 else float("nan")


def _influence(sums: Sums, run: int) -> np.ndarray:
    """[m] derivative of a run's measure with respect to the weight of each image, by central differences."""
    parts = sums.parts[run]
    total = parts.sum(axis=0)
    found: np.ndarray = (sums.value(total + _STEP * parts) - sums.value(total - _STEP * parts)) / (2 * _STEP)
    return found


def detectable(error: float, freedom: int, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest true difference that a two-sided test at 1 - level detects with this power (the MDE).

    (t(1 - alpha/2) + t(power)) times the standard error: Bloom (1995), Evaluation Review 19(5); with clustered errors for
    evaluations of language models: Miller (2024), arXiv 2411.00640.
    """
    if freedom < 1:
        return float("nan")
    return float((t.ppf((1 + level) / 2, freedom) + t.ppf(power, freedom)) * error)
