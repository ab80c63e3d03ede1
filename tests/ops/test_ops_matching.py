"""Bipartite matching and merging against plain Python loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.matching import (
    batch_threshold,
    bipartite,
    capped_merges,
    even_merges,
    merge_average,
    merge_first,
    merge_none,
    merge_rounds,
    running_thresholds,
)

seeds = st.integers(0, 2**32 - 1)
lengths = st.lists(st.integers(1, 20), min_size=1, max_size=4)


def drawn(seed: int, *shape: int, levels: int = 4) -> torch.Tensor:
    """Few distinct values, so that ties are common; never a zero vector."""
    return torch.from_numpy(np.random.default_rng(seed).integers(1, levels, shape)).double()


def padded(seed, counts):
    return drawn(seed, len(counts), max(counts), 3), torch.tensor(counts)


def loop(metric, merged):
    """One sequence by the letter: pairs, then groups of input positions in the order of the output."""
    unit = torch.nn.functional.normalize(metric, dim=-1)
    pairs = []
    for even in range(2, len(unit), 2):
        scores = [float(unit[even] @ unit[odd]) for odd in range(1, len(unit), 2)]
        best = max(range(len(scores)), key=lambda i: (scores[i], -i))
        pairs.append((-scores[best], even, 2 * best + 1))
    taken = {even: odd for _, even, odd in sorted(pairs)[:merged]}
    evens = [place for place in range(0, len(unit), 2) if place not in taken]
    odds = list(range(1, len(unit), 2))
    order = evens + odds if taken else list(range(len(unit)))
    return [[place, *(even for even in taken if taken[even] == place)] for place in order]


@given(seeds, lengths, st.integers(0, 12), st.booleans())
def test_merging_is_the_loop_over_each_sequence(seed, counts, number, ties):
    sizes = torch.tensor(counts)
    if ties:
        # Unit vectors along axes: products are -1, 0 or 1 exactly, whatever the order of summation.
        drawing = drawn(seed, len(counts), max(counts), levels=7).long() - 1
        metric = torch.nn.functional.one_hot(drawing % 3, 3).double() * (1 - 2 * (drawing % 2))[..., None]
    else:
        metric = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(counts), max(counts), 4)))
    merge = merge_first(bipartite(metric, sizes), torch.full_like(sizes, number), sizes, metric.shape[1])
    for row, count in enumerate(counts):
        expected = loop(metric[row, :count], number)
        assert int(merge.counts[row]) == len(expected)
        assert merge.kept[row, : len(expected)].tolist() == [group[0] for group in expected]
        for token, group in enumerate(expected):
            assert (merge.group[row] == token).nonzero().flatten().tolist() == sorted(group)
        assert (merge.group[row, count:] == -1).all()


@given(seeds, lengths, st.integers(0, 12))
def test_averages_keep_mass_and_sizes_count_patches(seed, counts, number):
    metric, sizes = padded(seed, counts)
    tokens, size = drawn(seed // 2, len(counts), max(counts), 5), drawn(seed // 3, len(counts), max(counts))
    size = size * (torch.arange(max(counts)) < sizes[:, None])
    merge = merge_first(bipartite(metric, sizes), torch.full_like(sizes, number), sizes, metric.shape[1])
    averages, after = merge_average(tokens, size, merge)
    assert torch.allclose((averages * after[..., None]).sum(1), (tokens * size[..., None]).sum(1))
    assert torch.equal(after.sum(1), size.sum(1))
    for row in range(len(counts)):
        assert (after[row, : int(merge.counts[row])] > 0).all()
        assert (after[row, int(merge.counts[row]) :] == 0).all()


@given(seeds, lengths, st.integers(0, 12))
def test_a_sequence_alone_merges_what_it_merges_in_a_batch(seed, counts, number):
    metric, sizes = padded(seed, counts)
    together = merge_first(bipartite(metric, sizes), torch.full_like(sizes, number), sizes, metric.shape[1])
    for row, count in enumerate(counts):
        one = sizes[row : row + 1]
        alone = merge_first(bipartite(metric[row : row + 1, :count], one), one * 0 + number, one, count)
        assert torch.equal(alone.group[0], together.group[row, :count])


@given(seeds, lengths)
def test_the_first_token_is_never_merged(seed, counts):
    metric, sizes = padded(seed, counts)
    merge = merge_first(bipartite(metric, sizes), sizes, sizes, metric.shape[1])
    assert ((merge.group == 0).sum(1) == 1).all()
    assert (merge.group[:, 0] == 0).all()
    assert torch.equal(merge.counts, sizes - (sizes - 1) // 2)


@given(seeds, lengths)
def test_merging_nothing_changes_nothing(seed, counts):
    metric, sizes = padded(seed, counts)
    none = merge_none(sizes, metric.shape[1])
    same = merge_first(bipartite(metric, sizes), sizes * 0, sizes, metric.shape[1])
    for merge in (none, same):
        assert torch.equal(merge.counts, sizes)
        assert merge_average(metric, sizes[:, None].expand(metric.shape[:2]), merge)[0] is metric
    assert torch.equal(none.group, same.group)


def rounds(metric, size, penalty, remove):
    """One sequence folded by the letter: each token is (its first members, its metric, its size, its penalty)."""
    tokens = [([place], metric[place], size[place], penalty[place]) for place in range(len(metric))]
    while remove:
        now, left = min(remove, (len(tokens) - 1) // 2), []
        unit = [torch.nn.functional.normalize(token[1], dim=0) for token in tokens]
        for even in range(2, len(tokens), 2):
            best = max(range(1, len(tokens), 2), key=lambda odd, even=even: float(unit[even] @ unit[odd]))
            left.append((float(unit[even] @ unit[best]) - float(tokens[even][3]), even, best))
        into = {even: odd for _, even, odd in sorted(left, reverse=True)[:now]}
        odds = []
        for odd in range(1, len(tokens), 2):
            group = [tokens[odd], *(tokens[even] for even in into if into[even] == odd)]
            whole = sum(token[2] for token in group)
            mean = sum(token[1] * token[2] for token in group) / whole
            members = [place for token in group for place in token[0]]
            odds.append((members, mean, whole, sum(token[3] for token in group) / len(group)))
        tokens = [tokens[even] for even in range(0, len(tokens), 2) if even not in into] + odds
        remove -= now
    return [sorted(token[0]) for token in tokens]


@given(seeds, st.integers(3, 30), st.data())
def test_folding_in_rounds_is_the_loop_over_each_sequence(seed, length, data):
    remove = data.draw(st.integers(0, length - 2))
    drawing = np.random.default_rng(seed)
    metric, penalty = (torch.from_numpy(drawing.normal(size=(2, length, *shape))) for shape in ((4,), ()))
    size = drawn(seed, 2, length)
    merge = merge_rounds(metric, size, torch.tensor([length] * 2), remove, penalty)
    assert merge.counts.tolist() == [length - remove] * 2
    assert merge.source.shape == merge.target.shape == (2, remove)
    for row in range(2):
        groups = [(merge.group[row] == token).nonzero().flatten().tolist() for token in range(length - remove)]
        assert groups == rounds(metric[row], size[row], penalty[row], remove)
        assert all(place in group for place, group in zip(merge.kept[row].tolist(), groups, strict=True))
        assert 0 in groups[0]
        gone = set(range(length)) - set(merge.kept[row].tolist())
        assert sorted(merge.source[row].tolist()) == sorted(gone)


@given(st.integers(2, 600), st.integers(1, 24), st.data())
def test_even_shares_meet_every_total_in_reach(length, blocks, data):
    most = sum(capped_merges(length, [length] * blocks))
    remove = data.draw(st.integers(0, most))
    plan = even_merges(length, remove, blocks)
    assert sum(plan) == remove
    assert capped_merges(length, plan) == plan
    # As even as it goes: a block that merges less than the first ones by more than one is at its limit.
    left = length
    for merged in plan:
        assert merged >= plan[0] - 1 or merged == (left - 1) // 2
        left -= merged
    assert even_merges(length, most + 1, blocks) is None


@given(seeds, st.integers(2, 30), st.integers(1, 4), st.data())
def test_a_batch_threshold_lets_through_what_was_asked(seed, length, batch, data):
    metric = torch.from_numpy(np.random.default_rng(seed).random((batch, length, 4)))
    scores = bipartite(metric, torch.full((batch,), length)).score
    remove = data.draw(st.integers(0, batch * ((length - 1) // 2)))
    assert int((scores > batch_threshold(scores, remove)).sum()) == remove


@pytest.mark.parametrize(("values", "means"), [([], []), ([0.5], [0.5]), ([0.9, 0.5, 0.4], [0.9, 0.7, 0.6])])
def test_running_thresholds_are_means_so_far(values, means):
    assert running_thresholds(values) == pytest.approx(means)
