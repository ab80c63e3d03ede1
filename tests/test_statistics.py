"""Intervals of differences between runs."""

from __future__ import annotations

import numpy as np
import pytest

from parbench.errors import ParbenchError
from parbench.statistics.paired import paired_difference


def lines(scores, per_image=10):
    return [{"id": f"q{n}", "image_id": f"i{n // per_image}", "score": float(s)} for n, s in enumerate(scores)]


def test_a_run_differs_from_itself_by_nothing():
    run = lines([1, 0, 1, 1])
    found = paired_difference(run, run)
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_the_interval_holds_the_difference_as_often_as_it_says():
    draw = np.random.default_rng(7)
    held = 0
    for _ in range(200):
        # Questions of an image fail together, which an interval over questions would not see.
        hard = np.repeat(draw.random(60) < 0.3, 10)
        one = np.where(hard, draw.random(600) < 0.2, draw.random(600) < 0.9)
        other = draw.random(600) < 0.6
        found = paired_difference(lines(one), lines(other))
        held += found.low <= 0.7 * 0.9 + 0.3 * 0.2 - 0.6 <= found.high
    assert 180 <= held <= 199


def test_questions_of_one_image_count_together():
    one, other = [1] * 50 + [0] * 50, [0] * 50 + [1] * 50
    together = paired_difference(lines(one, per_image=50), lines(other, per_image=50))
    apart = paired_difference(lines(one, per_image=1), lines(other, per_image=1))
    assert together.high - together.low > apart.high - apart.low


def test_runs_of_other_questions_are_refused():
    with pytest.raises(ParbenchError, match="same questions"):
        paired_difference(lines([1, 0]), lines([1, 0, 1]))
