"""Dividing a budget among groups of tokens and choosing within each, on whatever hypothesis thinks of."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.groups import apportion, sum_by_group, top_by_group

groups = st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 30)), min_size=1, max_size=8)


@given(groups, st.data())
def test_a_budget_is_divided_whole_and_nobody_gives_more_than_it_has(given_groups, data):
    weights, most = map(list, zip(*given_groups, strict=True))
    total = data.draw(st.integers(0, sum(most)))
    found = apportion(total, weights, most)
    assert sum(found) == total
    assert all(0 <= count <= room for count, room in zip(found, most, strict=True))


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8), st.integers(0, 500))
def test_shares_are_in_proportion_to_less_than_one(weights, total):
    found = apportion(total, weights, [total] * len(weights)) if total else [0] * len(weights)
    assert all(abs(count - total * weight / sum(weights)) < 1 for count, weight in zip(found, weights, strict=True))


def test_what_a_group_lacks_goes_to_the_others():
    assert apportion(12, [10, 1, 1], [2, 30, 30]) == [2, 5, 5]
    assert apportion(5, [1, 0, 0], [1, 2, 6]) == [1, 1, 3]
    with pytest.raises(ValueError, match="cannot give"):
        apportion(4, [1, 1], [1, 2])


def test_a_budget_is_divided_in_proportion_to_tokens():
    assert apportion(3, [16, 16, 16, 16, 6], [16, 16, 16, 16, 6]) == [1, 1, 1, 0, 0]
    assert apportion(70, [16, 16, 16, 16, 6], [16, 16, 16, 16, 6]) == [16, 16, 16, 16, 6]
    assert apportion(10, [30, 10], [30, 10]) == [8, 2]


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 20))
def test_the_best_of_each_group_are_those_of_a_plain_sort(seed, parts, size):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 5, (2, size), generator=draw).double()
    group = torch.randint(0, parts, (size,), generator=draw)
    counts = torch.randint(0, 4, (2, parts), generator=draw)
    keep = top_by_group(scores, group, counts)
    for row in range(2):
        wanted = set()
        for number in range(parts):
            mine = [token for token in range(size) if int(group[token]) == number]
            mine.sort(key=lambda token: (-float(scores[row, token]), token))
            wanted |= set(mine[: int(counts[row, number])])
        assert set(keep[row].nonzero().flatten().tolist()) == wanted
    sums = sum_by_group(scores, group, parts)
    assert torch.equal(sums, torch.stack([scores[:, group == number].sum(1) for number in range(parts)], dim=1))
