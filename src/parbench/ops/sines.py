"""Fixed sine encodings of places."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_sines(rows: int, columns: int, width: int, longest: float = 10_000.0) -> Tensor:
    """2-D sine encodings of the cells of a grid: half of the dimensions for the row, half for the column, sines before cosines.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        width: Number of dimensions, a multiple of 4.
        longest: Longest wavelength, in 2 pi cells.

    Returns:
        [rows * columns, width] in float64, with values from -1 to 1.

    Raises:
        ValueError: The width is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"the width {width} is no multiple of 4")
    steps = longest ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def axis(size: int) -> Tensor:
        angles = torch.arange(size, dtype=torch.float64)[:, None] * steps
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    down, across = axis(rows)[:, None].expand(-1, columns, -1), axis(columns)[None].expand(rows, -1, -1)
    return torch.cat([down, across], dim=2).flatten(0, 1)
