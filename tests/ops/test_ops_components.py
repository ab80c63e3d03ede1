"""Principal components by random projection, against the exact ones."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.components import main_loadings

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@given(seeds, st.integers(2, 12), st.integers(2, 12), st.data())
def test_any_start_finds_the_components_of_a_matrix_of_their_rank(seed, rows, columns, data):
    count = data.draw(st.integers(1, min(rows, columns)))
    left, right = (torch.linalg.qr(drawn(seed + n, size, count)).Q for n, size in enumerate((rows, columns)))
    # Singular values 1, 1/2, 1/4 ...: each vector is unique up to its sign.
    matrix = left * 2.0 ** -torch.arange(count) @ right.T
    for start in (seed + 2, seed + 3):
        found = main_loadings(matrix, drawn(start, columns, count), 2)
        torch.testing.assert_close(found.abs(), right.abs(), rtol=0, atol=1e-6)
