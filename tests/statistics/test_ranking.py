"""Ranks that respect ties."""

from __future__ import annotations

import numpy as np
import pytest

from parbench.statistics.bootstrap import Resampled, resample
from parbench.statistics.measures import Sums, ratio
from parbench.statistics.ranking import better, ranks


def scored(scores: list[list[float]]) -> Resampled:
    """Runs with one question an image."""
    points = np.array(scores, dtype=float)
    return resample([Sums(np.stack([points, np.ones_like(points)], axis=-1), ratio)])[0]


def noise(share: float, seed: int, images: int = 200) -> list[float]:
    return (np.random.default_rng(seed).random(images) < share).astype(float).tolist()


def test_what_cannot_be_told_apart_shares_a_rank():
    found = better(scored([noise(0.9, 0), noise(0.89, 1), noise(0.4, 2), noise(0.41, 3)]))
    assert ranks(found).tolist() == [1, 1, 3, 3]
    assert not found[0, 1]
    assert not found[1, 0]
    assert found[0, 2]


def test_a_rank_counts_only_those_that_are_better():
    # The middle one can be told from neither, the first from the last.
    right = [1.0] * 190 + [0.0] * 10
    middle = [1.0] * 186 + [0.0] * 14
    last = [1.0] * 182 + [0.0] * 18
    found = better(scored([right, middle, last]))
    assert ranks(found).tolist() == [1, 1, 2]


def test_many_runs_can_still_be_told_apart():
    """Counted resamples have no p-value small enough for 780 pairs."""
    found = better(scored([noise(0.9, seed) for seed in range(20)] + [noise(0.2, seed) for seed in range(20, 40)]))
    assert set(ranks(found)[:20]) == {1}
    assert set(ranks(found)[20:]) == {21}


def test_the_same_answers_are_a_tie_and_one_more_everywhere_is_not():
    same = noise(0.5, 0)
    assert ranks(better(scored([same, same]))).tolist() == [1, 1]
    assert ranks(better(scored([[1.0] * 50, [0.0] * 50]))).tolist() == [1, 2]


def test_without_a_second_image_nothing_is_better():
    assert ranks(better(scored([[1.0], [0.0]]))).tolist() == [1, 1]


def test_chance_alone_seldom_makes_a_rank():
    """Holm keeps the chance of any wrong rank at 5 %."""
    wrong = sum((ranks(better(scored([noise(0.5, 100 * trial + run, 60) for run in range(6)]))) > 1).any() for trial in range(60))
    assert wrong <= 9


@pytest.mark.parametrize("count", [1, 2])
def test_few_runs(count):
    assert ranks(better(scored([noise(0.5, seed) for seed in range(count)]))).tolist() == [1] * count
