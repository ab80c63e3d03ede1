"""Bootstrap intervals and p-values by resampling images with all their questions, paired over runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from parbench.statistics.measures import Sums

DRAWS = 10_000
LEVEL = 0.95
# Size of a block of resamples in numbers, which bounds memory for any number of images.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Resampled:
    """A measure of R runs in B resamples.

    Attributes:
        point: [R] value on the data.
        draws: [R, B] value in each resample.
        freedom: [R] degrees of freedom.
    """

    point: np.ndarray
    draws: np.ndarray
    freedom: np.ndarray

    def of(self, run: int) -> Estimate:
        """The estimate of one run."""
        return Estimate(float(self.point[run]), self.draws[run], int(self.freedom[run]))

    def against(self, run: int, other: int, function: Callable[..., np.ndarray] = np.subtract) -> Estimate:
        """The estimate of the difference of two runs, or of another function of them; NaN where it is undefined."""
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
    """A value with its resamples.

    Attributes:
        point: The value on the data; NaN if undefined.
        draws: [B] value in each resample.
        freedom: Degrees of freedom: images minus one.
    """

    point: float
    draws: np.ndarray
    freedom: int

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Percentile interval, expanded for few images as Student's t is wider than the normal (Hesterberg 2015).

        NaN if all resamples give the same value, which says nothing about other images, or with a single image.
        """
        draws = self.draws[np.isfinite(self.draws)]
        if self.freedom < 1 or not np.isfinite(self.point) or not len(draws) or np.ptp(draws) < 1e-12:
            return float("nan"), float("nan")
        low, high = np.quantile(draws, tails(self.freedom, level))
        return float(low), float(high)

    def p_value(self) -> float:
        """Two-sided p-value for the value being zero: 1 minus the level of the widest interval that excludes zero."""
        draws = self.draws[np.isfinite(self.draws)]
        if self.freedom < 1 or not np.isfinite(self.point) or not len(draws):
            return float("nan")
        below, above = np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0)
        tail = min(0.5, (1 + min(below, above)) / (1 + len(draws)))
        return float(2 * t.cdf(norm.ppf(tail), self.freedom))


def tails(freedom: int, level: float = LEVEL) -> tuple[float, float]:
    """The quantiles of resamples that are the ends of an interval, expanded as Student's t is wider than the normal."""
    tail = float(norm.cdf(t.ppf((1 - level) / 2, freedom)))
    return tail, 1 - tail


def resample(measures: Sequence[Sums], draws: int = DRAWS, seed: int = 0) -> list[Resampled]:
    """Resample measures of the same runs and images with the same draws.

    Of m images, m - 1 are drawn with replacement, so the spread of the resamples is unbiased for any m (Rao and Wu 1988). Strata
    are
    drawn separately. The draws depend only on the number of images, their strata and the seed, so the interval of a run does not
    depend on other rows of the table.
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
    """How often each image is drawn, in blocks [b, m]. Of n images of a stratum, n - 1 are drawn, or the only one."""
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
