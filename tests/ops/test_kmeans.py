"""k-means, and farthest-point sampling from a given token."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.farthest import apart, farthest_points
from parbench.ops.kmeans import k_means


@st.composite
def batches(draw):
    """Tokens [B, N, d], some of them equal, and a number of clusters."""
    size = draw(st.integers(1, 12))
    values = st.sampled_from([-1.0, 0.0, 0.5, 2.0])
    shape = (draw(st.integers(1, 3)), size, 2)
    flat = draw(st.lists(values, min_size=shape[0] * size * 2, max_size=shape[0] * size * 2))
    return torch.tensor(flat).view(shape), draw(st.integers(1, size))


@given(batches(), st.integers(1, 4))
def test_every_token_is_in_one_cluster_and_none_is_empty(made, rounds):
    tokens, clusters = made
    members = k_means(tokens, clusters, rounds)
    assert members.shape == (len(tokens), clusters, tokens.shape[1])
    assert (members.sum(1) == 1).all()
    assert (members.sum(2) >= 1).all()


@given(batches())
def test_an_image_has_the_clusters_that_it_has_alone(made):
    tokens, clusters = made
    together = k_means(tokens, clusters, 3)
    for number in range(len(tokens)):
        assert torch.equal(together[number : number + 1], k_means(tokens[number : number + 1], clusters, 3))


def test_clusters_are_those_that_anyone_sees():
    tokens = torch.tensor([[[0.0], [10.0], [0.2], [5.0], [10.1], [0.1]]])
    members = k_means(tokens, 3, 5)[0]
    assert {tuple(row.nonzero().flatten().tolist()) for row in members} == {(0, 2, 5), (1, 4), (3,)}


def test_scikit_learn_finds_no_better_clusters_from_the_same_start():
    from sklearn.cluster import KMeans

    tokens = torch.randn(1, 60, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = (tokens - tokens.mean(1, keepdim=True)).norm(dim=-1).argmax(1, keepdim=True)
    start = tokens[0, farthest_points(apart(tokens), 7, first)[0]]
    theirs = KMeans(7, init=start.numpy(), n_init=1, max_iter=50, tol=0).fit(tokens[0].numpy()).labels_
    members = k_means(tokens, 7, 51)[0]
    assert {tuple(row.nonzero().flatten().tolist()) for row in members} == {
        tuple((theirs == label).nonzero()[0].tolist()) for label in range(7)
    }


@given(batches())
def test_distances_are_those_of_differences(made):
    tokens, _ = made
    expected = (tokens[:, :, None] - tokens[:, None]).double().square().sum(-1)
    assert torch.allclose(apart(tokens), expected)
    assert (apart(tokens).diagonal(dim1=1, dim2=2) == 0).all()


def test_sampling_starts_where_it_is_told():
    tokens = torch.tensor([[[0.0], [1.0], [2.0], [9.0]]])
    assert farthest_points(apart(tokens), 4, torch.tensor([[1]])).tolist() == [[1, 3, 0, 2]]
