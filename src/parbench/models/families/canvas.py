"""Where the crops of an image lie on a padded canvas, and the tiles of an image in it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from parbench.models.source import Box


def best_grid(image_size: list[int], pinpoints: list[list[int]]) -> tuple[int, int]:
    """Height and width of the canvas that Hugging Face chooses for an image of some height and width."""
    from transformers.image_processing_utils import select_best_resolution

    height, width = select_best_resolution(image_size, pinpoints)
    return int(height), int(width)


def shown(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, width and height of the resized image in a padded canvas, all in pixels of the canvas."""
    (width, height), (most_wide, most_high) = size, canvas
    if most_wide / width < most_high / height:
        wide, high = most_wide, min(math.ceil(height * most_wide / width), most_high)
    else:
        wide, high = min(math.ceil(width * most_high / height), most_wide), most_high
    return (most_wide - wide) // 2, (most_high - high) // 2, wide, high


def boxes(corners: Tensor, length: float, shown: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """Squares of a canvas as boxes [n, 4] of the image, from their upper left corners [n, 2] (row, column)."""
    left, top, wide, high = shown
    x, y = size[0] / wide, size[1] / high
    rows, columns = corners[:, 0], corners[:, 1]
    return torch.stack([(columns - left) * x, (rows - top) * y, (columns + length - left) * x, (rows + length - top) * y], dim=-1)


def spread(values: Tensor, separator: Tensor) -> Tensor:
    """Values of tokens [N, ...] at their places among separators; a separator gets that of the token before it."""
    index = ((~separator).cumsum(0) - 1).clamp(min=0)
    return values[index]


def tile_boxes(size: tuple[int, int], rows: int, columns: int) -> list[Box]:
    """The boxes of equal tiles of an image of ``size`` (width, height), in raster order."""
    width, height = size
    return [
        (column * width / columns, row * height / rows, (column + 1) * width / columns, (row + 1) * height / rows)
        for row in range(rows)
        for column in range(columns)
    ]
