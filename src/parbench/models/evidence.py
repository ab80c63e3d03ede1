"""The visual tokens that show what a question is about, from boxes in its image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parbench.models.source import Box, Source, grid_source

# Share of a token's box that an evidence box must cover for the token to count as needed.
COVERED = 0.25


@dataclass(frozen=True)
class Needed:
    """The visual tokens of an image that a question needs, as indices among its tokens without separators.

    Attributes:
        fine: Tokens of the finest parts of the image, such as crops or tiles, whose box an evidence box covers by a quarter.
        holders: For each coarser token, such as one of a thumbnail, that shows the centre of one or more of these: which.
    """

    fine: frozenset[int]
    holders: dict[int, frozenset[int]]

    @property
    def all(self) -> frozenset[int]:
        """Needed tokens of all parts."""
        return self.fine | self.holders.keys()


def needed(boxes: Sequence[Sequence[float]], source: Source) -> Needed:
    """The tokens that the boxes cover.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the image; x1 and y1 are exclusive.
        source: Where the tokens of the image come from, in the same pixels.
    """
    cells = _cells(source)
    left, top, right, bottom = cells.edges
    covered = np.zeros(len(left), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        across = np.minimum(right, x1) - np.maximum(left, x0)
        down = np.minimum(bottom, y1) - np.maximum(top, y0)
        covered |= (across > 0) & (down > 0) & (across * down >= cells.enough)
    fine = (covered & cells.is_fine).nonzero()[0]
    return Needed(frozenset(fine.tolist()), _holders(cells, fine) if len(cells.coarse) else {})


@dataclass(frozen=True, eq=False)
class _Cells:
    """The tokens of an image without separators.

    Attributes:
        edges: [4, N] left, top, right and bottom of their boxes.
        enough: [N] the area of each that has to be covered.
        is_fine: [N] whether they are of the finest parts.
        coarse: Indices of the others.
    """

    edges: NDArray[np.float64]
    enough: NDArray[np.float64]
    is_fine: NDArray[np.bool_]
    coarse: NDArray[np.int64]


# Images of one size share their source.
@lru_cache(maxsize=64)
def _cells(source: Source) -> _Cells:
    content = source.content
    edges = source.box[content].numpy().T.copy()
    is_fine = source.is_fine()[content].numpy()
    left, top, right, bottom = edges
    return _Cells(edges, COVERED * ((right - left) * (bottom - top)), is_fine, (~is_fine).nonzero()[0])


def _holders(cells: _Cells, fine: NDArray[np.int64]) -> dict[int, frozenset[int]]:
    """For each coarse token whose box holds the centre of fine tokens: which."""
    left, top, right, bottom = cells.edges[:, fine]
    x, y = (left + right) / 2, (top + bottom) / 2
    left, top, right, bottom = cells.edges[:, cells.coarse][:, :, None]
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    pairs = zip(cells.coarse.tolist(), inside, strict=True)
    return {token: frozenset(fine[holds].tolist()) for token, holds in pairs if holds.any()}


@dataclass(frozen=True)
class Evidence:
    """Where in an image is what a question is about.

    Attributes:
        boxes: Left, top, right and bottom of each thing; right and bottom are exclusive. Empty if the question needs none of them.
        square: Width and height of the square that the boxes refer to, for models that see the centre square of an image; None if
            they are in pixels of the image as given.
    """

    boxes: tuple[Box, ...]
    square: tuple[int, int] | None = None

    def needed(self, source: Source, grid: tuple[int, int]) -> list[Needed]:
        """The visual tokens that each box needs.

        Args:
            source: Where the tokens of the image come from.
            grid: Rows and columns of its tokens, for boxes that refer to a square.
        """
        read = source if self.square is None else grid_source(self.square, *grid)
        return [needed([box], read) for box in self.boxes]


def joined(several: Sequence[Evidence | None]) -> Evidence | None:
    """What several questions about one image are about; None if that is not known of one of them."""
    known = [one for one in several if one is not None]
    if not known or len(known) < len(several):
        return None
    return Evidence(tuple(dict.fromkeys(box for one in known for box in one.boxes)), known[0].square)
