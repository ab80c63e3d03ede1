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


def needed(boxes: Sequence[Sequence[float]], source: Source, frames: Sequence[int] | None = None) -> Needed:
    """The tokens that the boxes cover.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the image; x1 and y1 are exclusive.
        source: Where the tokens of the image come from, in the same pixels.
        frames: Of a video, the number of the frame of each box: tokens of other frames do not count. A token of a time step of
            several frames is one of each of them. Where a box covers no token of its frame by a quarter, the one that it covers
            most counts. None for an image.
    """
    cells = _cells(source)
    left, top, right, bottom = cells.edges
    covered = np.zeros(len(left), dtype=bool)
    for (x0, y0, x1, y1), frame in zip(boxes, [None] * len(boxes) if frames is None else frames, strict=True):
        across = np.minimum(right, x1) - np.maximum(left, x0)
        down = np.minimum(bottom, y1) - np.maximum(top, y0)
        inside = (across > 0) & (down > 0) & (across * down >= cells.enough)
        if frame is not None:
            inside = _in_frame(inside, np.maximum(across, 0) * np.maximum(down, 0), cells.showing(frame))
        covered |= inside
    fine = (covered & cells.is_fine).nonzero()[0]
    return Needed(frozenset(fine.tolist()), _holders(cells, fine) if len(cells.coarse) else {})


def _in_frame(inside: NDArray[np.bool_], area: NDArray[np.float64], showing: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[N] the tokens of a frame that a box covers enough, or else most."""
    found: NDArray[np.bool_] = inside & showing
    if found.any() or not (area * showing).any():
        return found
    most: NDArray[np.bool_] = showing & (area == (area * showing).max())
    return most


@dataclass(frozen=True, eq=False)
class _Cells:
    """The tokens of an image without separators.

    Attributes:
        edges: [4, N] left, top, right and bottom of their boxes.
        enough: [N] the area of each that has to be covered.
        is_fine: [N] whether they are of the finest parts.
        coarse: Indices of the others.
        part: [N] the part of each.
        frames: The frames that each part shows, of a video.
    """

    edges: NDArray[np.float64]
    enough: NDArray[np.float64]
    is_fine: NDArray[np.bool_]
    coarse: NDArray[np.int64]
    part: NDArray[np.int64]
    frames: tuple[tuple[int, ...], ...]

    def showing(self, frame: int) -> NDArray[np.bool_]:
        """[N] whether each is of a part that shows a frame."""
        found: NDArray[np.bool_] = np.array([frame in shown for shown in self.frames])[self.part]
        return found


# Images of one size share their source.
@lru_cache(maxsize=64)
def _cells(source: Source) -> _Cells:
    content = source.content
    edges = source.box[content].numpy().T.copy()
    is_fine = source.is_fine()[content].numpy()
    left, top, right, bottom = edges
    enough = COVERED * ((right - left) * (bottom - top))
    shown = tuple(part.frames for part in source.parts)
    return _Cells(edges, enough, is_fine, (~is_fine).nonzero()[0], source.part[content].numpy(), shown)


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
            they are in pixels of the image as given, and for videos.
        frames: Of a video, the number of the frame of each box; None for an image.
    """

    boxes: tuple[Box, ...]
    square: tuple[int, int] | None = None
    frames: tuple[int, ...] | None = None

    def needed(self, source: Source, grid: tuple[int, int]) -> list[Needed]:
        """The visual tokens that each box needs; of a video, those of its frame.

        Args:
            source: Where the tokens of the image come from.
            grid: Rows and columns of its tokens, for boxes that refer to a square.
        """
        read = source if self.square is None else grid_source(self.square, *grid)
        if self.frames is not None:
            return [needed([box], read, [frame]) for box, frame in zip(self.boxes, self.frames, strict=True)]
        return [needed([box], read) for box in self.boxes]


def joined(several: Sequence[Evidence | None]) -> Evidence | None:
    """What several questions about one image are about; None if that is not known of one of them."""
    known = [one for one in several if one is not None]
    if not known or len(known) < len(several):
        return None
    if all(one.frames is None for one in known):
        return Evidence(tuple(dict.fromkeys(box for one in known for box in one.boxes)), known[0].square)
    places = dict.fromkeys(place for one in known for place in zip(one.boxes, one.frames or (), strict=True))
    return Evidence(tuple(box for box, _ in places), None, tuple(frame for _, frame in places))
