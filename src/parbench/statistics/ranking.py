"""Ranks that respect ties: who is better than whom by a paired difference that holds after correction."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from parbench.statistics.bootstrap import LEVEL, Resampled
from parbench.statistics.significance import holm

# A spread below this is none: every resample gives the same difference.
_NOTHING = 1e-12


def better(resampled: Resampled) -> np.ndarray:
    """Which run is better than which [R, R]: row better than column.

    A pair's difference is put to a t-test with the standard deviation of its resamples as its error, and Holm's correction runs
    over all pairs. (The p-value of counted resamples cannot be small enough: of 300 pairs the first needs 0.00017.)
    """
    difference = resampled.point[:, None] - resampled.point[None, :]
    spread = np.atleast_2d(np.cov(resampled.draws))
    variance = np.diag(spread)[:, None] + np.diag(spread)[None, :] - 2 * spread
    error = np.sqrt(variance.clip(min=0))
    freedom = np.minimum(resampled.freedom[:, None], resampled.freedom[None, :])
    pairs = np.triu_indices(len(difference), 1)
    corrected = np.full(difference.shape, np.nan)
    corrected[pairs] = holm([_p_value(*pair) for pair in zip(difference[pairs], error[pairs], freedom[pairs], strict=True)])
    corrected = np.where(np.isnan(corrected), corrected.T, corrected)
    # Where there is no number, as without a second image, nothing is better.
    return np.asarray((corrected < 1 - LEVEL) & (difference > 0))


def _p_value(difference: float, error: float, freedom: int) -> float:
    if freedom < 1 or not np.isfinite(difference) or not np.isfinite(error):
        return float("nan")
    if error < _NOTHING:
        return 1.0 if abs(difference) < _NOTHING else 0.0
    return float(2 * t.sf(abs(difference) / error, freedom))


def ranks(better: np.ndarray) -> np.ndarray:
    """One more than how many are better [R], as in Chatbot Arena: those that cannot be told from the best share the first rank."""
    return np.asarray(1 + better.sum(axis=0))
