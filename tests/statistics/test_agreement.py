"""Whether the orders of two models agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from parbench.statistics.agreement import agreement, kendall
from parbench.statistics.bootstrap import Resampled, resample
from parbench.statistics.measures import Sums, ratio


def scored(shares: list[float], seed: int, images: int = 200) -> Resampled:
    """Runs that are right on about these shares of images, with one question each."""
    random = np.random.default_rng(seed)
    right = (random.random((len(shares), images)) < np.array(shares)[:, None]).astype(float)
    return resample([Sums(np.stack([right, np.ones_like(right)], axis=-1), ratio)], draws=1000)[0]


def test_tau_is_that_of_scipy_with_and_without_ties():
    random = np.random.default_rng(0)
    for values in (random.random((20, 2, 7)), random.integers(0, 4, (20, 2, 7)).astype(float)):
        found = kendall(values[:, 0], values[:, 1])
        assert found == pytest.approx([kendalltau(*pair).statistic for pair in values])


def test_tau_is_undefined_where_all_are_equal():
    assert np.isnan(kendall(np.ones(4), np.arange(4.0)))


def test_the_same_order_agrees_and_the_reverse_does_not():
    shares = [0.95, 0.8, 0.6, 0.4, 0.2]
    good, reverse = agreement(scored(shares, 1), scored(shares, 2)), agreement(scored(shares, 1), scored(shares[::-1], 3))
    assert (good.tau.point, reverse.tau.point) == (1, -1)
    assert (good.same.sum(), good.opposite.sum()) == (10, 0)
    assert (reverse.same.sum(), reverse.opposite.sum()) == (0, 10)
    assert good.pairs == 10
    assert [one.point for one in reverse.moved] == [4, 2, 0, -2, -4]
    assert good.alone[0] > 0.98


def test_what_changes_its_rank_is_named_with_an_interval_and_an_opposite_pair():
    found = agreement(scored([0.95, 0.6, 0.3], 1), scored([0.5, 0.9, 0.6], 2))
    assert found.ranks.tolist() == [[1, 2, 3], [3, 1, 2]]
    low, high = found.moved[0].interval()
    assert 0 < low < high == 2
    # The last one overtakes the first too, by too little to be told.
    assert np.argwhere(found.opposite).tolist() == [[0, 1]]


def test_near_ties_lower_tau_but_are_no_disagreement():
    """With one true order of nearly equal methods, the interval may leave out 1, and pairs are called opposite seldom."""
    shares, without, wrong = np.linspace(0.85, 0.75, 12).tolist(), 0, 0
    for trial in range(20):
        found = agreement(scored(shares, 2 * trial), scored(shares, 2 * trial + 1))
        without += found.tau.interval()[1] < 1
        wrong += bool(found.opposite.any())
        assert found.alone[0] < 0.9
    assert without > 15
    assert wrong <= 1
