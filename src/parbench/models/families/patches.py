"""Patches in groups, and tensors of several images at one length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def grouped(rows: int, columns: int, side: int, begin: int = 0) -> Tensor:
    """[rows/side x columns/side, side^2] patches of each square group, in raster order of groups and within them.

    Args:
        rows: Rows of the grid of patches.
        columns: Its columns.
        side: Patches along a group's side.
        begin: Number of the first patch.
    """
    index = torch.arange(rows * columns).view(rows // side, side, columns // side, side)
    return index.permute(0, 2, 1, 3).reshape(-1, side * side) + begin


def pad_first(values: Sequence[Tensor], dimension: int) -> list[Tensor]:
    """Tensors padded at the end of a dimension to one length."""
    longest = max(value.shape[dimension] for value in values)
    after = values[0].ndim - 1 - dimension
    return [F.pad(value, (0, 0) * after + (0, longest - value.shape[dimension])) for value in values]
