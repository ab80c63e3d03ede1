"""The number of tokens at which one method is as accurate as another, between the budgets that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parbench.statistics.bootstrap import LEVEL, tails


@dataclass(frozen=True)
class Needed:
    """The fewest tokens at which a curve of accuracy reaches a value.

    Attributes:
        tokens: On the data; ``-inf`` if fewer than ``least``, ``inf`` if more than ``most``.
        low: Lower end of the 95 % interval, of the same kind; NaN without an interval.
        high: Upper end.
        least: The fewest tokens that were measured.
        most: The most tokens that were measured.
    """

    tokens: float
    low: float
    high: float
    least: float
    most: float


def needed(tokens: Sequence[float], point: np.ndarray, draws: np.ndarray, wanted: tuple[float, np.ndarray], freedom: int) -> Needed:
    """The fewest tokens at which a curve reaches a value, with its interval.

    Args:
        tokens: [K] delivered tokens of the curve's runs, ascending.
        point: [K] their values.
        draws: [K, B] their values in each resample.
        wanted: The value to reach, and [B] that value in the same resamples.
        freedom: Degrees of freedom of the interval.
    """
    at = np.asarray(tokens, dtype=float)
    found = tokens_for(at, draws.T, wanted[1])
    low, high = float("nan"), float("nan")
    # Without a spread, the resamples say nothing about other images.
    if freedom >= 1 and (found != found[0]).any():
        # Infinite ends cannot be interpolated.
        low, high = np.quantile(found, tails(freedom, LEVEL), method="inverted_cdf")
    return Needed(float(tokens_for(at, point, np.asarray(wanted[0]))), float(low), float(high), float(at[0]), float(at[-1]))


def tokens_for(tokens: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The fewest tokens at which curves reach given values.

    A curve is first made to fall nowhere by isotonic regression with equal weights, then interpolated linearly over the logarithm
    of the tokens, over which accuracy is closer to a line.

    Args:
        tokens: [K] ascending.
        values: [..., K] curves.
        wanted: [...] the values to reach.

    Returns:
        [...] tokens; ``-inf`` where the value is exceeded at the fewest, ``inf`` where it is reached nowhere.
    """
    curve = _isotonic(values)
    reached = curve >= wanted[..., None]
    place = reached.argmax(axis=-1)
    before = np.maximum(place - 1, 0)

    def at(index: np.ndarray) -> np.ndarray:
        return np.take_along_axis(curve, index[..., None], axis=-1)[..., 0]

    above, below, logs = at(place), at(before), np.log2(tokens)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(place > 0, (wanted - below) / (above - below), 1.0)
    found = 2 ** (logs[before] + share * (logs[place] - logs[before]))
    # With one place for both, the share does not matter.
    found = np.where((place == 0) & (above > wanted), -np.inf, found)
    result: np.ndarray = np.where(reached.any(axis=-1), found, np.inf)
    return result


def _isotonic(values: np.ndarray) -> np.ndarray:
    """The closest curves [..., K] that fall nowhere: the greatest over starts of the least over ends of means."""
    count = values.shape[-1]
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    found = np.full(values.shape, -np.inf)
    for start in range(count):
        means = np.stack([(sums[..., end + 1] - sums[..., start]) / (end + 1 - start) for end in range(start, count)], axis=-1)
        # The least over all ends at or after each place.
        least = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
        found[..., start:] = np.maximum(found[..., start:], least)
    return found
