"""Tensor functions against plain Python or SciPy, on whatever hypothesis thinks of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components as scipy_components

from parbench.ops.graph import connected_components, cosine, suppress
from parbench.ops.grid import area_weights, centres, factor, grid_weights
from parbench.ops.selection import compact, gather, outliers, to_mask, top_k
from parbench.reducers import Provenance, Reduction

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 24)


def drawn(seed: int, *shape: int, levels: int = 7) -> torch.Tensor:
    """Few distinct values, so that ties are common."""
    return torch.from_numpy(np.random.default_rng(seed).integers(0, levels, shape)).double()


@given(seeds, sizes, st.data())
def test_top_k_is_sorting_with_ties_to_the_lower_index(seed, size, data):
    k = data.draw(st.integers(0, size))
    scores = drawn(seed, 3, size)
    for row, chosen in zip(scores.tolist(), top_k(scores, k).tolist(), strict=True):
        assert chosen == sorted(range(size), key=lambda i: (-row[i], i))[:k]


@given(seeds, sizes)
def test_compact_lists_true_places_in_raster_order(seed, size):
    mask = drawn(seed, 4, size, levels=2).bool()
    index, counts = compact(mask)
    for row, places, count in zip(mask, index, counts, strict=True):
        assert places[:count].tolist() == row.nonzero().flatten().tolist()


@given(seeds, sizes)
def test_gather_and_to_mask_undo_each_other(seed, size):
    tokens = drawn(seed, 2, size, 3)
    chosen = top_k(drawn(seed + 1 if seed < 2**32 - 1 else 0, 2, size), (size + 1) // 2)
    mask = to_mask(chosen, size)
    index, _ = compact(mask)
    assert torch.equal(gather(tokens, index), tokens[mask].view(2, -1, 3))


@given(seeds, sizes)
def test_components_are_scipys(seed, size):
    edges = drawn(seed, 3, size, size, levels=6) == 0
    edges = edges | edges.transpose(1, 2) | torch.eye(size, dtype=torch.bool)
    for graph, labels in zip(edges, connected_components(edges), strict=True):
        _, expected = scipy_components(graph.numpy(), directed=False)
        same = labels[:, None] == labels[None]
        assert np.array_equal(same.numpy(), expected[:, None] == expected[None])
        # A component is called by its least member.
        assert all(label <= node for node, label in enumerate(labels.tolist()))


@given(seeds, sizes)
def test_suppression_is_the_greedy_loop(seed, size):
    similarity = drawn(seed, 2, size, size) / 7
    similarity = (similarity + similarity.transpose(1, 2)) / 2
    priority = drawn(seed // 2, 2, size)
    alive = drawn(seed // 3, 2, size, levels=3) > 0
    kept = suppress(similarity, priority, alive, 0.5)
    for b in range(2):
        expected: list[int] = []
        for i in sorted(range(size), key=lambda i: (-float(priority[b, i]), i)):
            if alive[b, i] and all(similarity[b, i, j] <= 0.5 for j in expected):
                expected.append(i)
        assert kept[b].nonzero().flatten().tolist() == sorted(expected)


@given(seeds, st.integers(4, 60))
def test_outliers_are_above_tukeys_fence(seed, size):
    values = torch.from_numpy(np.random.default_rng(seed).lognormal(size=(2, size)))
    for row, found in zip(values.numpy(), outliers(values), strict=True):
        q1, q3 = np.quantile(row, [0.25, 0.75])
        assert found.tolist() == (row > q3 + 1.5 * (q3 - q1)).tolist()


@given(st.integers(1, 576))
def test_a_factored_count_is_a_grid_that_fits(count):
    if found := factor(count, 24, 24):
        rows, columns = found
        assert rows * columns == count
        assert max(rows, columns) <= 24
        assert max(rows / columns, columns / rows) <= 3
        index = centres(found, (24, 24))
        assert len(set(index.tolist())) == count
        assert 0 <= int(index.min()) <= int(index.max()) < 576


@pytest.mark.parametrize(("budget", "grid"), [(192, (12, 16)), (128, (8, 16)), (64, (8, 8)), (32, (4, 8)), (576, (24, 24))])
def test_the_literatures_budgets_make_grids(budget, grid):
    assert factor(budget, 24, 24) == grid


@given(st.integers(1, 24), st.integers(1, 24))
def test_area_weights_share_out_everything_evenly(coarse, fine):
    coarse, fine = sorted((coarse, fine))
    weights = area_weights(coarse, fine)
    assert torch.allclose(weights.sum(1), torch.ones(coarse, dtype=torch.float64))
    assert torch.allclose(weights.sum(0), torch.full((fine,), coarse / fine, dtype=torch.float64))


def test_pooling_by_grid_weights_is_average_pooling_where_cells_are_whole():
    tokens = torch.randn(576, 5, dtype=torch.float64)
    pooled = grid_weights((8, 8), (24, 24)) @ tokens
    expected = torch.nn.functional.avg_pool2d(tokens.T.view(1, 5, 24, 24), 3).view(5, 64).T
    assert torch.allclose(pooled, expected)


@given(seeds, sizes)
def test_cosine_is_symmetric_and_one_with_itself(seed, size):
    tokens = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, size, 5))).float()
    similarity = cosine(tokens)
    assert similarity.dtype == torch.float64
    assert torch.allclose(similarity, similarity.transpose(1, 2))
    assert torch.allclose(similarity.diagonal(dim1=1, dim2=2), torch.ones(2, size, dtype=torch.float64))


@given(seeds, sizes)
def test_selection_and_its_provenance_say_the_same(seed, size):
    features = drawn(seed, 3, size, 4, levels=100)
    keep = drawn(seed // 5, 3, size, levels=2).bool()
    reduction = Reduction.select(features, keep)
    for image in range(3):
        token, patch, weight = reduction.provenance.of(image)
        assert torch.equal(reduction.tokens[image, token], features[image, patch])
        assert token.tolist() == list(range(int(reduction.counts[image])))
        assert weight.tolist() == [1.0] * len(weight)


@given(seeds, sizes)
def test_mixing_and_its_provenance_say_the_same(seed, size):
    features = drawn(seed, 2, size, 3)
    weights = drawn(seed // 7, 2, 4, size, levels=3)
    counts = torch.tensor([4, 2])
    reduction = Reduction.mix(features, weights, counts)
    for image in range(2):
        token, patch, weight = reduction.provenance.of(image)
        rebuilt = torch.zeros(4, 3, dtype=torch.float64).index_add_(0, token, weight[:, None] * features[image, patch])
        count = int(counts[image])
        assert torch.allclose(rebuilt[:count], reduction.tokens[image, :count])
        assert not rebuilt[count:].any()


def test_provenance_of_nothing_is_empty():
    reduction = Reduction.select(torch.zeros(2, 5, 3), torch.zeros(2, 5, dtype=torch.bool))
    assert reduction.tokens.shape == (2, 0, 3)
    assert isinstance(reduction.provenance, Provenance)
    assert [len(part) for part in reduction.provenance.of(1)] == [0, 0, 0]
