"""Regular arrangements of tokens on a grid of patches."""

from __future__ import annotations

import torch
from torch import Tensor

# Maximum aspect ratio of a coarse grid.
MAX_ASPECT = 3.0


def factor(count: int, rows: int, columns: int) -> tuple[int, int] | None:
    """Factor a count into coarse rows x columns that fit into the grid, as square as possible; None if impossible."""
    best = None
    for coarse in range(1, min(count, rows) + 1):
        across = count // coarse
        if coarse * across == count and across <= columns:
            aspect = max(coarse / across, across / coarse)
            if aspect <= MAX_ASPECT and (best is None or aspect < best[0]):
                best = (aspect, coarse, across)
    return best and (best[1], best[2])


def area_weights(coarse: int, fine: int) -> Tensor:
    """[coarse, fine] share of each fine cell in each coarse cell if both divide a line evenly; rows sum to 1."""
    edges = torch.arange(coarse + 1, dtype=torch.float64) * fine / coarse
    cells = torch.arange(fine, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], cells + 1) - torch.maximum(edges[:-1, None], cells)
    return overlap.clamp(min=0) * coarse / fine


def grid_weights(coarse: tuple[int, int], fine: tuple[int, int]) -> Tensor:
    """[k, N] area weights of a coarse grid over a fine one, both in raster order; rows sum to 1."""
    return torch.kron(area_weights(coarse[0], fine[0]), area_weights(coarse[1], fine[1]))


def banded_weights(count: int, rows: int, columns: int) -> Tensor:
    """[count, rows x columns] area weights of any number of cells over a grid: bands of equal height, of nearly equally many cells.

    Args:
        count: Number of cells, at most rows x columns.
        rows: Rows of the grid.
        columns: Its columns.
    """
    bands = min(max(round((count * rows / columns) ** 0.5), -(-count // columns)), rows, count)
    height = area_weights(bands, rows)
    cells = [count * (band + 1) // bands - count * band // bands for band in range(bands)]
    return torch.cat([torch.kron(height[band : band + 1], area_weights(number, columns)) for band, number in enumerate(cells)])


def centres(coarse: tuple[int, int], fine: tuple[int, int]) -> Tensor:
    """[k] raster index of the fine cell at the centre of each coarse cell."""
    row, column = (((2 * torch.arange(c) + 1) * f // (2 * c)).clamp(max=f - 1) for c, f in zip(coarse, fine, strict=True))
    return (row[:, None] * fine[1] + column[None, :]).flatten()


def evenly(count: int, fine: tuple[int, int]) -> Tensor:
    """[count] raster indices of fine cells: centres of a coarse grid if ``count`` forms one, else evenly spaced in raster order."""
    if coarse := factor(count, *fine):
        return centres(coarse, fine)
    return spaced(count, fine[0] * fine[1])


def spaced(count: int, size: int) -> Tensor:
    """[count] indices below ``size``, evenly spaced; ``count`` is at most ``size``."""
    return (2 * torch.arange(count) + 1) * size // (2 * count)


def neighbour_mean(tokens: Tensor, grid: tuple[int, int], radius: int) -> Tensor:
    """Mean over the tokens at most ``radius`` rows and columns away, without the token itself: [B, N, d] to [B, N, d]."""
    rows, columns = grid
    plane = tokens.transpose(1, 2).reshape(tokens.shape[0], -1, rows, columns)
    side = 2 * radius + 1
    # Padding is in neither the sum nor the divisor: both pool over the same cells.
    total = torch.nn.functional.avg_pool2d(plane, side, 1, radius, divisor_override=1)
    cells = torch.nn.functional.avg_pool2d(torch.ones_like(plane[:1, :1]), side, 1, radius, divisor_override=1)
    mean = (total - plane) / (cells - 1).clamp(min=1)
    return mean.flatten(2).transpose(1, 2)


def adjacent(rows: int, columns: int) -> Tensor:
    """[N, N] bool: whether two cells of a grid, in raster order, are the same or touch, also at a corner."""
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    return (cells[:, None] - cells[None]).abs().amax(2) <= 1
