"""Whether two orders of the same methods agree: Kendall's tau with an interval, pairs told apart, and changes of rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from parbench.statistics.bootstrap import Estimate, Resampled
from parbench.statistics.ranking import better

# Size of a block of resamples in numbers, which bounds memory for any number of methods.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Agreement:
    """Two orders of the same R methods.

    Attributes:
        tau: Kendall's tau-b of the two orders, with its resamples.
        alone: For each order, the mean tau of the order and its own resamples: how far the choice of images alone moves it, so what
            tau can hardly exceed.
        same: [R, R] bool: row better than column in both orders, by differences that hold after Holm's correction over all pairs.
        opposite: [R, R] bool: row better than column in the first order, and column better than row in the second.
        ranks: [2, R] rank of each method in each order, 1 for the best; ties share their mean rank.
        moved: For each method, its rank in the second order minus that in the first, with resamples.
    """

    tau: Estimate
    alone: tuple[float, float]
    same: np.ndarray
    opposite: np.ndarray
    ranks: np.ndarray
    moved: tuple[Estimate, ...]

    @property
    def pairs(self) -> int:
        """Number of pairs of methods."""
        return len(self.same) * (len(self.same) - 1) // 2


def agreement(one: Resampled, other: Resampled) -> Agreement:
    """Compare two orders of the same methods, which stand in the same places.

    The interval of tau and of a change of rank is the percentile interval of the resamples. Methods that are nearly equal change
    places in any sample, which pulls tau and its resamples towards zero. The upper end of the interval is therefore no bound on
    the tau of the true orders; that two models disagree is shown by ``opposite``.

    Args:
        one: A measure of R methods on the first model.
        other: The same on the second. Resamples are paired if both models were asked about the same images, since the draws depend
            only on their number.
    """
    freedom = int(min(one.freedom.min(), other.freedom.min()))
    tau = Estimate(float(kendall(one.point, other.point)), kendall(one.draws.T, other.draws.T), freedom)
    alone = tuple(float(np.nanmean(kendall(each.point, each.draws.T))) for each in (one, other))
    first, second = better(one), better(other)
    ranks = np.stack([rankdata(-each.point) for each in (one, other)])
    change = rankdata(-other.draws, axis=0) - rankdata(-one.draws, axis=0)
    moved = tuple(Estimate(float(after - before), row, freedom) for before, after, row in zip(*ranks, change, strict=True))
    return Agreement(tau, (alone[0], alone[1]), first & second, first & second.T, ranks, moved)


def kendall(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of values [..., R] and [..., R], which are broadcast: [...]; NaN where all values of a side are equal.

    Concordant minus discordant pairs, over the geometric mean of the numbers of pairs that are not tied on each side
    (Kendall, Biometrika 33, 1945).
    """
    one, other = np.broadcast_arrays(np.asarray(one, dtype=float), np.asarray(other, dtype=float))
    shape, methods = one.shape[:-1], one.shape[-1]
    flat = one.reshape(-1, methods), other.reshape(-1, methods)
    pairs = np.triu_indices(methods, 1)
    rows = max(1, _BLOCK // max(1, len(pairs[0])))
    found = np.empty(len(flat[0]))
    for start in range(0, len(found), rows):
        signs = [np.sign(values[start : start + rows, pairs[0]] - values[start : start + rows, pairs[1]]) for values in flat]
        untied = [np.abs(sign).sum(axis=1) for sign in signs]
        with np.errstate(divide="ignore", invalid="ignore"):
            found[start : start + rows] = (signs[0] * signs[1]).sum(axis=1) / np.sqrt(untied[0] * untied[1])
    tau: np.ndarray = found.reshape(shape)
    return tau
