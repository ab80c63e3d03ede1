"""Grouping of patches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.grouping import unevenness


@given(seed=st.integers(0, 1000), groups=st.integers(1, 9), spread=st.floats(0, 30))
def test_unevenness_lies_between_equal_shares_and_one_group(seed, groups, spread):
    scores = spread * torch.randn(2, groups, 12, generator=torch.Generator().manual_seed(seed))
    found = float(unevenness(scores))
    assert -1e-5 <= found <= math.log(groups) + 1e-5
    # The order of patches and of groups does not matter.
    assert float(unevenness(scores.flip(1).flip(2))) == pytest.approx(found, abs=1e-5)


def test_unevenness_of_one_group_and_of_equal_shares():
    alone = torch.zeros(1, 4, 8)
    alone[:, 0] = 200
    assert float(unevenness(alone)) == pytest.approx(math.log(4), abs=1e-5)
    assert float(unevenness(200 * torch.eye(4).repeat(1, 2)[None])) == pytest.approx(0, abs=1e-5)


def test_unevenness_pulls_patches_towards_an_empty_group():
    scores = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]], requires_grad=True)
    unevenness(scores).backward()
    assert (scores.grad[:, 0] > 0).all()
    assert (scores.grad[:, 1] < 0).all()
