"""Sine encodings of places."""

from __future__ import annotations

import pytest
import torch

from parbench.ops.sines import grid_sines


def test_cells_of_a_row_share_their_first_half_and_no_two_cells_are_alike():
    found = grid_sines(3, 5, 16).view(3, 5, 16)
    assert torch.equal(found[:, :, :8], found[:, :1, :8].expand(-1, 5, -1))
    assert torch.equal(found[:, :, 8:], found[:1, :, 8:].expand(3, -1, -1))
    assert len(found.view(15, 16).unique(dim=0)) == 15
    assert float(found.abs().max()) <= 1


def test_near_cells_are_more_alike_than_far_ones():
    row = grid_sines(1, 24, 192)
    apart = torch.cdist(row, row)[0]
    assert (apart[1:8].diff() > 0).all()


def test_a_width_without_quarters_is_refused():
    with pytest.raises(ValueError, match="the width 10 is no multiple of 4"):
        grid_sines(2, 2, 10)
