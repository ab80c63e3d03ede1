"""The number of tokens at which a curve of accuracy reaches a value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parbench.statistics.matching import needed, tokens_for

TOKENS = np.array([16.0, 64.0, 256.0])


def test_between_budgets_it_is_interpolated_over_the_logarithm():
    assert tokens_for(TOKENS, np.array([0.5, 0.7, 0.9]), np.array(0.8)) == pytest.approx(128)
    assert tokens_for(TOKENS, np.array([0.5, 0.7, 0.9]), np.array(0.7)) == pytest.approx(64)


def test_outside_of_what_was_measured_nothing_is_guessed():
    found = tokens_for(TOKENS, np.array([[0.5, 0.7, 0.9]] * 3), np.array([0.4, 0.5, 0.95]))
    assert found.tolist() == [-np.inf, 16, np.inf]


def test_a_curve_that_falls_is_levelled():
    # 0.8 and 0.6 become 0.7, which 64 tokens reach as 256 do.
    assert tokens_for(TOKENS, np.array([0.5, 0.8, 0.6]), np.array(0.7)) == pytest.approx(64)
    assert tokens_for(TOKENS, np.array([0.5, 0.8, 0.6]), np.array(0.75)) == np.inf


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1))
def test_more_accuracy_never_takes_fewer_tokens(values, one, other):
    less, more = sorted((one, other))
    found = tokens_for(TOKENS, np.array([values, values]), np.array([less, more]))
    assert found[0] <= found[1] + 1e-9


def test_an_interval_may_be_open():
    draws = np.stack([np.full(1000, 0.5), np.full(1000, 0.7), np.linspace(0.75, 0.95, 1000)])
    found = needed([16, 64, 256], np.array([0.5, 0.7, 0.85]), draws, (0.8, np.full(1000, 0.8)), 100)
    assert found.tokens == pytest.approx(2 ** (6 + 2 * 2 / 3))
    assert 64 < found.low < found.tokens
    assert found.high == np.inf
    assert (found.least, found.most) == (16, 256)


def test_without_a_spread_there_is_no_interval():
    found = needed([16, 64], np.array([0.5, 0.7]), np.tile([[0.5], [0.7]], 100), (0.6, np.full(100, 0.6)), 100)
    assert found.tokens == pytest.approx(32)
    assert np.isnan([found.low, found.high]).all()
