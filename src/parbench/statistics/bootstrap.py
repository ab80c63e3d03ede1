"""Intervals and p-values from resampling images with all their questions, the same ones for every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from parbench.statistics.measures import Sums

DRAWS = 10_000
LEVEL = 0.95
# Numbers of a block of draws, which bounds memory whatever the number of images.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Resampled:
    """A measure of R runs and what it is in each resample.

    Attributes:
        point: [R].
        draws: [R, B].
        freedom: Degrees of freedom of each [R].
    """

    point: np.ndarray
    draws: np.ndarray
    freedom: np.ndarray

    def of(self, run: int) -> Estimate:
        """One run's."""
        return Estimate(float(self.point[run]), self.draws[run], int(self.freedom[run]))

    def against(self, run: int, other: int, function: Callable[..., np.ndarray] = np.subtract) -> Estimate:
        """One run against another: their difference, or another function of the two; NaN where it has no value, as over zero."""
        with np.errstate(divide="ignore", invalid="ignore"):
            point = function(self.point[run], self.point[other])
            draws = function(self.draws[run], self.draws[other])
        return Estimate(
            float(point) if np.isfinite(point) else float("nan"),
            draws,
            int(min(self.freedom[run], self.freedom[other])),
        )


@dataclass(frozen=True)
class Estimate:
    """A number with its resamples.

    Attributes:
        point: The number; NaN where there is none.
        draws: In each resample [B].
        freedom: Images less one.
    """

    point: float
    draws: np.ndarray
    freedom: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Percentile interval, expanded for few images: percentiles as far out as Student's t is beyond the normal (Hesterberg
        2015).

        NaN where every resample gives the same number, which says nothing about others, or where one image alone speaks.
        """
        draws = self.draws[np.isfinite(self.draws)]
        if self.freedom < 1 or not np.isfinite(self.point) or not len(draws) or np.ptp(draws) < 1e-12:
            return float("nan"), float("nan")
        tail = norm.cdf(t.ppf((1 - level) / 2, self.freedom))
        low, high = np.quantile(draws, [tail, 1 - tail])
        return float(low), float(high)

    def p_value(self) -> float:
        """Two-sided, that the number is zero: 1 less the level of the widest interval that leaves zero out."""
        draws = self.draws[np.isfinite(self.draws)]
        if self.freedom < 1 or not np.isfinite(self.point) or not len(draws):
            return float("nan")
        below, above = np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0)
        tail = min(0.5, (1 + min(below, above)) / (1 + len(draws)))
        return float(2 * t.cdf(norm.ppf(tail), self.freedom))


def resample(measures: Sequence[Sums], draws: int = DRAWS, seed: int = 0) -> list[Resampled]:
    """Measures of the same runs and images under the same resamples.

    Of m images m - 1 are drawn, with replacement, which makes the spread of the resamples unbiased for any m (Rao and Wu 1988); of
    strata each by itself. What is drawn depends on the number of images, their strata and the seed alone: a run's interval is the
    same whatever else is in the table.
    """
    images = measures[0].parts.shape[1]
    strata = next((sums.strata for sums in measures if len(sums.strata)), np.zeros(images, dtype=int))
    found: list[list[np.ndarray]] = [[] for _ in measures]
    for weights in _weights(strata, draws, seed):
        for sums, drawn in zip(measures, found, strict=True):
            runs, _, width = sums.parts.shape
            flat = sums.parts.transpose(1, 0, 2).reshape(images, runs * width)
            drawn.append(sums.value((weights @ flat).reshape(-1, runs, width)).T)
    return [Resampled(sums.point, np.concatenate(drawn, axis=1), sums.freedom) for sums, drawn in zip(measures, found, strict=True)]


def _weights(strata: np.ndarray, draws: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, block by block [b, m]; every stratum gives one less than it has, or its only one."""
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    block = max(1, _BLOCK // len(strata))
    for start in range(0, draws, block):
        rows = min(block, draws - start)
        weights = np.zeros((rows, len(strata)))
        for places in members:
            drawn = random.integers(len(places), size=(rows, max(1, len(places) - 1)))
            drawn += len(places) * np.arange(rows)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=rows * len(places))
            weights[:, places] = counts.reshape(rows, len(places))
        yield weights
