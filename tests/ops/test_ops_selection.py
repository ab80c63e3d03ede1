"""Tensor functions of diverse and merging choices against plain Python, on whatever hypothesis thinks of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.counts import by_share, rank
from parbench.ops.coverage import greedy_coverage
from parbench.ops.dpp import greedy_map
from parbench.ops.farthest import farthest_points
from parbench.ops.folding import fold, fold_once, least_folded
from parbench.ops.graph import cosine
from parbench.ops.grid import neighbour_mean
from parbench.ops.pairing import thin_by_halves
from parbench.ops.remainder import kept_and_mean
from parbench.ops.selection import top_k
from plain_ops import plain_coverage, plain_farthest, plain_folding, plain_thinning

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(2, 20)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def levels(seed: int, *shape: int, count: int = 5) -> torch.Tensor:
    """Few distinct values, so that ties are common."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, count, shape)).double()


@given(seeds, sizes, st.data())
def test_farthest_points_are_those_of_a_plain_search(seed, size, data):
    count = data.draw(st.integers(1, size))
    half = levels(seed, 3, size, size)
    distance = half + half.transpose(1, 2)
    for matrix, chosen in zip(distance.tolist(), farthest_points(distance, count).tolist(), strict=True):
        assert chosen == plain_farthest(matrix, count)


@given(seeds, st.integers(2, 45), st.integers(1, 8), st.data())
def test_greedy_coverage_is_that_of_a_plain_search_alone_and_in_a_batch(seed, size, rows, data):
    count = data.draw(st.integers(1, size))
    # Quarters: gains are exact, so that ties are.
    cover, weight = levels(seed, 3, rows, size) / 4 - 0.25, levels(seed + 1, 3, size)
    last = levels(seed + 2, 3, size, count=3) == 0
    found = greedy_coverage(cover, count, weight, last)
    for row in range(3):
        barred = last[row].nonzero().flatten().tolist()
        assert found[row].tolist() == plain_coverage(cover[row].tolist(), weight[row].tolist(), count, barred)
        one = slice(row, row + 1)
        assert torch.equal(greedy_coverage(cover[one], count, weight[one], last[one])[0], found[row])


@given(seeds, st.integers(2, 12), st.data())
def test_greedy_map_multiplies_the_determinant_most(seed, size, data):
    count = data.draw(st.integers(1, size))
    half = drawn(seed, 2, size, size)
    kernel = half @ half.transpose(1, 2)
    for matrix, chosen in zip(kernel, greedy_map(kernel, count, torch.zeros(2, size)).tolist(), strict=True):
        for step, pick in enumerate(chosen):
            before = chosen[:step]
            gains = {
                i: torch.linalg.slogdet(matrix[[*before, i]][:, [*before, i]]).logabsdet.item()
                for i in range(size)
                if i not in before
            }
            assert gains[pick] >= max(gains.values()) - 1e-6


@given(seeds, st.integers(1, 4), st.data())
def test_greedy_map_beyond_the_rank_goes_by_the_spare_scores(seed, rank, data):
    size = data.draw(st.integers(rank + 1, 12))
    half = drawn(seed, 2, size, rank)
    spare = levels(seed, 2, size)
    for chosen, scores in zip(greedy_map(half @ half.transpose(1, 2), size, spare).tolist(), spare, strict=True):
        assert sorted(chosen) == list(range(size))
        beyond = chosen[rank:]
        assert beyond == sorted(beyond, key=lambda i: (-scores[i].item(), i))


def test_a_kernel_of_zeros_goes_by_the_spare_scores_alone():
    assert greedy_map(torch.zeros(1, 4, 4), 3, torch.tensor([[0.0, 2.0, 1.0, 2.0]])).tolist() == [[1, 3, 2]]


@given(seeds, sizes, st.booleans(), st.data())
def test_folding_is_what_a_plain_loop_folds(seed, size, protect, data):
    remove = data.draw(st.integers(0, size - least_folded(size)))
    tokens = drawn(seed, 2, size, 5)
    for image, group in zip(tokens.numpy(), fold(tokens, remove, protect=protect).tolist(), strict=True):
        expected = plain_folding(image, remove, protect)
        assert [[i for i, g in enumerate(group) if g == k] for k in range(size - remove)] == expected
        assert not protect or (group[0] == 0 and min(i for i, g in enumerate(group) if g == 0) == 0)


def test_folding_goes_as_far_as_two_and_no_further():
    assert int(fold(drawn(0, 1, 9, 3), 9).max()) + 1 == least_folded(9)


@given(seeds, sizes)
def test_what_is_penalised_enough_is_folded_last(seed, size):
    tokens = drawn(seed, 1, size, 4)
    penalty = torch.zeros(1, size)
    penalty[0, 0] = 10.0
    assert torch.equal(fold_once(tokens, (size - 1) // 2, penalty), fold_once(tokens, (size - 1) // 2, protect=True))


@given(seeds, sizes, st.integers(1, 5), st.data())
def test_thinning_is_what_a_plain_loop_leaves(seed, size, step, data):
    listed = data.draw(st.integers(1, size))
    keep = data.draw(st.integers(1, listed))
    half = levels(seed, 3, size, size)
    similarity = half + half.transpose(1, 2)
    order = drawn(seed, 3, size).argsort(dim=1)[:, :listed]
    found = thin_by_halves(similarity, order, keep, step)
    for matrix, row, left in zip(similarity.tolist(), order.tolist(), found.tolist(), strict=True):
        assert left == plain_thinning(matrix, row, keep, step)


@given(sizes, st.data())
def test_a_count_by_its_share_is_what_python_makes_of_it(size, data):
    counts = data.draw(st.lists(st.integers(0, size), min_size=1, max_size=5))
    assert by_share(torch.tensor(counts), size).tolist() == [int(size * (count / size)) for count in counts]


def test_no_count_of_576_changes_by_its_share():
    counts = torch.arange(577)
    assert torch.equal(by_share(counts, 576), counts)
    assert by_share(torch.tensor([1]), 196).tolist() == [0]


@given(seeds, sizes)
def test_the_rank_is_the_place_in_descending_order(seed, size):
    scores = levels(seed, 3, size)
    places = torch.arange(size).expand(3, -1)
    assert torch.equal(rank(scores).gather(1, top_k(scores, size)), places)


@given(seeds, sizes)
def test_the_appended_mean_is_of_all_that_is_not_kept(seed, size):
    keep = levels(seed, 4, size, count=2).bool()
    keep[:, -1] = False
    values = drawn(seed, 4, size, 3)
    weights, counts = kept_and_mean(keep)
    tokens = weights @ values
    for row, count, value, token in zip(keep, counts.tolist(), values, tokens, strict=True):
        assert count == int(row.sum()) + 1
        torch.testing.assert_close(token[:count], torch.cat([value[row], value[~row].mean(0, keepdim=True)]))
        assert not token[count:].any()


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 3))
def test_neighbours_are_those_on_the_grid(seed, rows, columns, radius):
    tokens = drawn(seed, 2, rows * columns, 3)
    found = neighbour_mean(tokens, (rows, columns), radius).view(2, rows, columns, 3)
    for row, column in itertools.product(range(rows), range(columns)):
        near = [
            tokens.view(2, rows, columns, 3)[:, r, c]
            for r in range(max(0, row - radius), min(rows, row + radius + 1))
            for c in range(max(0, column - radius), min(columns, column + radius + 1))
            if (r, c) != (row, column)
        ]
        expected = sum(near) / len(near) if near else torch.zeros(2, 3)
        torch.testing.assert_close(found[:, row, column], expected, check_dtype=False)


@given(seeds, sizes, st.data())
def test_each_image_is_chosen_for_as_if_it_were_alone(seed, size, data):
    count = data.draw(st.integers(1, size))
    tokens = drawn(seed, 3, size, 6)
    similarity = cosine(tokens)
    order = torch.arange(size).expand(3, -1)
    together = (
        farthest_points(1 - similarity, count),
        greedy_map(similarity, count, similarity[:, 0]),
        thin_by_halves(similarity, order, count, 2),
        fold(tokens, min(math.floor(size / 2), size - least_folded(size))),
    )
    for image in range(3):
        own = slice(image, image + 1)
        alone = (
            farthest_points(1 - similarity[own], count),
            greedy_map(similarity[own], count, similarity[own, 0]),
            thin_by_halves(similarity[own], order[own], count, 2),
            fold(tokens[own], min(math.floor(size / 2), size - least_folded(size))),
        )
        assert all(torch.equal(a[own], b) for a, b in zip(together, alone, strict=True))
