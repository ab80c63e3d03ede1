"""Trees over time: what joins, and that a tree is the mean of its tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.trees import grown, joining_limit, nearest_before


@given(st.integers(2, 5), st.integers(1, 6), st.floats(-1, 1), st.integers(0, 30), st.integers(0, 99))
def test_trees_are_means_of_what_joined_and_enough_are_left(length, size, threshold, least, seed):
    drawn = torch.Generator().manual_seed(seed)
    unit = F.normalize(torch.randn(length, size, 4, generator=drawn, dtype=torch.float64), dim=-1)
    taken = torch.rand(length, size, generator=drawn) < 0.2
    alike, parent = nearest_before(unit, taken)
    limit = joining_limit(alike, threshold, least := min(least, length * size))
    joined = alike > limit
    assert limit >= min(threshold, -1 + 1e-6)
    assert not joined[0].any()
    assert not (joined & taken).any()
    assert int((~joined).sum()) >= least
    root, share = grown(joined, parent)
    for frame, place in joined.nonzero().tolist():
        before = int(parent[frame, place])
        assert not taken[frame - 1, before]
        assert float(unit[frame, place] @ unit[frame - 1].T[:, before]) > limit
        assert root[frame, place] == root[frame - 1, before]
    total = torch.zeros(length * size, dtype=torch.float64).index_add(0, root.flatten(), share.flatten())
    ends = root.flatten().unique()
    assert torch.allclose(total[ends], torch.ones(len(ends), dtype=torch.float64))
    assert not joined.flatten()[ends].any()
