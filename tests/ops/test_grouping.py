"""Grouping of patches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.grouping import unevenness


@given(seed=st.integers(0, 1000), groups=st.integers(1, 9), spread=st.sampled_from((0.0, 0.1, 3.0, 30.0)))
def test_unevenness_lies_between_equal_shares_and_one_group(seed, groups, spread):
    scores = spread * torch.randn(2, groups, 12, generator=torch.Generator().manual_seed(seed))
    found = float(unevenness(scores))
    assert -1e-5 <= found <= math.log(groups) + 1e-5
    # The order of patches and, without ties, of groups does not matter.
    assert float(unevenness(scores.flip(2))) == pytest.approx(found, abs=1e-5)
    assert spread == 0 or float(unevenness(scores.flip(1))) == pytest.approx(found, abs=1e-5)


def test_unevenness_of_one_group_and_of_equal_shares():
    alone = torch.zeros(1, 4, 8)
    alone[:, 0] = 200
    # 9 of 12 patches in one group, with one more in each.
    share = torch.tensor([9, 1, 1, 1]) / 12
    assert float(unevenness(alone)) == pytest.approx(math.log(4) + float((share * share.log()).sum()), abs=1e-5)
    assert float(unevenness(200 * torch.eye(4).repeat(1, 2)[None])) == pytest.approx(0, abs=1e-5)


def test_unevenness_pulls_patches_towards_an_empty_group():
    scores = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]], requires_grad=True)
    unevenness(scores).backward()
    assert (scores.grad[:, 0] > 0).all()
    assert (scores.grad[:, 1] < 0).all()
