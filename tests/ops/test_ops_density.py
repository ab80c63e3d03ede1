"""The local outlier factor and proportional counts against plain Python, on whatever hypothesis thinks of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.counts import in_proportion
from parbench.ops.density import local_outlier_factor

seeds = st.integers(0, 2**32 - 1)


def plain_factor(values, neighbours):
    """One row's factors."""
    size = len(values)
    count = min(neighbours, size - 1)
    if not count:
        return [1.0] * size
    near = [
        sorted((j for j in range(size) if j != i), key=lambda j: (abs(values[j] - values[i]), values[j]))[:count]
        for i in range(size)
    ]
    last = [abs(values[near[i][-1]] - values[i]) for i in range(size)]
    reach = [sum(max(abs(values[j] - values[i]), last[j]) for j in near[i]) / count for i in range(size)]
    density = [1 / (value + 1e-10) for value in reach]
    return [sum(density[j] for j in near[i]) / count / density[i] for i in range(size)]


@given(seeds, st.integers(1, 25), st.integers(1, 12), st.booleans())
def test_the_factor_is_that_of_a_plain_loop_without_what_is_left_out(seed, size, neighbours, few):
    random = np.random.default_rng(seed)
    # Few distinct values, so that many are repeated.
    values = torch.from_numpy(random.integers(0, 4, (2, size)).astype(float) if few else random.normal(size=(2, size)))
    valid = torch.from_numpy(random.random((2, size)) < 0.8)
    found = local_outlier_factor(values, neighbours, valid)
    for row, real, factor in zip(values, valid, found, strict=True):
        assert factor[real].tolist() == pytest.approx(plain_factor(row[real].tolist(), neighbours))
        assert bool((factor[~real] == 1).all())


def test_a_value_far_from_the_others_is_an_outlier():
    values = torch.tensor([[0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.9]])
    assert (local_outlier_factor(values, 3) > 1.5).tolist() == [[False] * 6 + [True]]


@given(st.lists(st.integers(0, 600), min_size=1, max_size=4), st.integers(0, 600))
def test_counts_in_proportion_have_the_total_and_are_no_token_off(counts, total):
    (found,) = in_proportion(torch.tensor([counts]), torch.tensor([total])).tolist()
    assert sum(found) == total
    if whole := sum(counts):
        assert all(abs(have - total * count / whole) < 1 for have, count in zip(found, counts, strict=True))
    else:
        assert found[0] == total
