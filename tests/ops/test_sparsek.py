"""SparseK: against bisection, and what makes it a projection with the right gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.sparsek import sparsek


@st.composite
def cases(draw):
    size = draw(st.integers(1, 12))
    # Some equal, some exactly 1 apart.
    value = st.one_of(st.floats(-20, 20, width=32), st.integers(-3, 3).map(float), st.sampled_from([0.5, 1.5]))
    rows = draw(st.integers(1, 3))
    scores = torch.tensor([[draw(value) for _ in range(size)] for _ in range(rows)], dtype=torch.float64)
    return scores, draw(st.integers(1, size))


def bisected(scores, k):
    low, high = scores.amin(1, keepdim=True) - 1, scores.amax(1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        enough = (scores - middle).clamp(0, 1).sum(1, keepdim=True) >= k
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return (scores - low).clamp(0, 1)


@given(cases())
def test_it_is_the_nearest_point_with_that_sum(case):
    scores, k = case
    found = sparsek(scores, k)
    assert ((found >= 0) & (found <= 1)).all()
    assert torch.allclose(found.sum(1), torch.full((len(scores),), float(k), dtype=torch.float64), atol=1e-9)
    assert torch.allclose(found, bisected(scores, k), atol=1e-9)
    # The conditions of optimality: one number tau is between all that the entries allow.
    rest = scores - found
    least = torch.where(found < 1 - 1e-9, rest, -torch.inf).amax(1)
    most = torch.where(found > 1e-9, rest, torch.inf).amin(1)
    assert (least <= most + 1e-9).all()


@given(cases(), st.randoms(use_true_random=False), st.floats(-5, 5))
def test_order_batch_and_a_common_number_do_not_matter(case, random, more):
    scores, k = case
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    found = sparsek(scores, k)
    assert torch.allclose(sparsek(scores[:, order], k), found[:, order], atol=1e-9)
    assert torch.allclose(sparsek(scores + more, k), found, atol=1e-9)
    assert torch.equal(sparsek(scores[-1], k), found[-1])


def test_its_gradient_is_that_of_finite_differences():
    scores = torch.randn(4, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: sparsek(given, 3), scores)
    assert torch.autograd.gradcheck(lambda given: sparsek(3 * given, 5), scores)


def test_far_apart_it_is_the_top_k_and_a_wrong_k_is_refused():
    scores = torch.tensor([3.0, 90.0, -40.0, 20.0])
    assert sparsek(scores, 2).tolist() == pytest.approx([0, 1, 0, 1])
    assert sparsek(scores, 4).tolist() == pytest.approx([1, 1, 1, 1])
    with pytest.raises(ValueError, match="use 1 to 4"):
        sparsek(scores, 5)
