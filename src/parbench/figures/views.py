"""An image as pictures of kept tokens show it, with the boxes of its tokens and of what a question needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from parbench.results.layouts import Layout, square_layout

if TYPE_CHECKING:
    from parbench.models.source import Source

# Side in pixels of the square input of LLaVA-1.5's vision tower.
SIDE = 336
# Largest side in pixels of any other image in a picture.
_MOST = 1024
# Smallest height of a sheet, as a share of its width.
_FLATTEST = 0.3
# Shares of a sheet's width that finer and coarser tokens get beside each other, and the gap between them.
_LARGE, _SMALL = 0.74, 0.24
Box = Sequence[float]


@dataclass(frozen=True)
class View:
    """An image to be shown.

    Attributes:
        image: It.
        layout: Where its visual tokens lie. Its ``size`` is that of the coordinates, which may be other than that of the image.
        boxes: Boxes of what a question needs, in these coordinates.
    """

    image: Image.Image
    layout: Layout
    boxes: Sequence[Box]

    @property
    def has_coarse(self) -> bool:
        """Whether there are coarser tokens beside the finest, such as those of a thumbnail."""
        return not self.layout.fine.all()

    @property
    def sheet_height(self) -> int:
        """Height in pixels of its sheet, which is ``SIDE`` pixels wide."""
        width, height = self.image.size
        return round(SIDE * min(1.0, max(_FLATTEST, height / width)))

    def strength(self, share: np.ndarray, fine: bool = True) -> np.ndarray:
        """The share of each pixel's token [H, W] in the kept tokens, 0..1.

        Args:
            share: The share of each visual token [N].
            fine: Whether to look at the finest tokens, or else at the coarser ones.
        """
        width, height = self.image.size
        found = np.zeros((height, width))
        begin = 0
        for grid in self.layout.grids:
            mine = share[begin : begin + grid.tokens].reshape(len(grid.y) - 1, len(grid.x) - 1)
            begin += grid.tokens
            if grid.fine != fine:
                continue
            row, rows = _cells(grid.y, height, self.layout.size[1])
            column, columns = _cells(grid.x, width, self.layout.size[0])
            inside = np.ix_(rows, columns)
            found[inside] = np.maximum(found[inside], mine[row][:, column])
        return found


def view(image: Image.Image, source: Source, boxes: Sequence[Box], square: bool) -> View:
    """The view of an image.

    Args:
        image: The image as given.
        source: Where its visual tokens come from.
        boxes: Boxes of what a question needs: in pixels of the image, or of the centre square, ``SIDE`` pixels wide.
        square: Whether the model sees the centre square alone.
    """
    if square:
        part = source.parts[0]
        return View(centre_square(image), square_layout(SIDE, part.rows, part.columns), boxes)
    return whole_view(image, Layout.of(source), boxes)


def seen_by_tower(image: Image.Image, source: Source) -> View:
    """The view of an image as the vision tower gets it: of the centre square if the tokens are one grid over it."""
    layout = Layout.of(source)
    if len(layout.grids) > 1:
        return View(image, layout, [])
    grid = layout.grids[0]
    rows, columns = len(grid.y) - 1, len(grid.x) - 1
    x, y = ([edge * extent / count for edge in range(count + 1)] for extent, count in zip(image.size, (columns, rows), strict=True))
    return View(image, Layout(image.size, (replace(grid, x=tuple(x), y=tuple(y)),)), [])


def whole_view(image: Image.Image, layout: Layout, boxes: Sequence[Box]) -> View:
    """The view of all of an image, made smaller if it is large."""
    scale = min(1.0, _MOST / max(image.size))
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return View(image if size == image.size else image.resize(size, Image.Resampling.BICUBIC), layout, boxes)


def frames_of(seen: View) -> list[View]:
    """The frames of a clip, in order, each as a view of its own; empty for an image."""
    found = []
    across, down = (pixels / extent for pixels, extent in zip(seen.image.size, seen.layout.size, strict=True))
    for grid in seen.layout.grids if seen.layout.frames > 1 else ():
        left, top, right, bottom = grid.x[0], grid.y[0], grid.x[-1], grid.y[-1]
        edges = (round(left * across), round(top * down), round(right * across), round(bottom * down))
        moved = replace(grid, x=tuple(edge - left for edge in grid.x), y=tuple(edge - top for edge in grid.y))
        layout = Layout((round(right - left), round(bottom - top)), (moved,))
        boxes = [
            (x0 - left, y0 - top, x1 - left, y1 - top)
            for x0, y0, x1, y1 in seen.boxes
            if x0 < right and y0 < bottom and x1 > left and y1 > top
        ]
        found.append(View(seen.image.crop(edges), layout, boxes))
    return found


def centre_square(image: Image.Image) -> Image.Image:
    """The centre crop of an image, as in CLIP's processor, ``SIDE`` pixels wide."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return cut if side == SIDE else cut.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def _cells(edges: Sequence[float], pixels: int, extent: float) -> tuple[np.ndarray, np.ndarray]:
    """For the pixels along a side that lie between the edges: the cell of each, and which pixels these are."""
    # A pixel belongs to the cell that holds its first edge; a little is added, since edges are rounded.
    place = np.arange(pixels) * extent / pixels + 1e-3
    cell = np.searchsorted(np.asarray(edges), place, side="right") - 1
    inside = (cell >= 0) & (cell < len(edges) - 1)
    return cell[inside], np.flatnonzero(inside)


@dataclass(frozen=True)
class Sheet:
    """A view drawn into a rectangle ``SIDE`` pixels wide: the finest tokens, and beside them, small, the coarser ones.

    Attributes:
        pixels: [H, SIDE, 3], 0..1. The height is at most ``SIDE``.
        boxes: The boxes of what a question needs, in its pixels, among the finest tokens.
    """

    pixels: np.ndarray
    boxes: list[list[float]]


def sheet(seen: View, share: np.ndarray | None = None, dimmed: float = 0.2) -> Sheet:
    """Draw a view into a rectangle ``SIDE`` pixels wide.

    Args:
        seen: The view.
        share: The share of each token in the kept tokens [N]; None to dim nothing, and to show no coarser tokens.
        dimmed: Brightness of what was dropped.
    """
    beside = share is not None and seen.has_coarse
    height = seen.sheet_height
    place = _fitted(seen.image.size, round(SIDE * _LARGE) if beside else SIDE, 0, height)
    pixels = np.ones((height, SIDE, 3))
    _paste(pixels, seen, place, None if share is None else seen.strength(share), dimmed)
    if share is not None and beside:
        small = _fitted(seen.image.size, round(SIDE * _SMALL), round(SIDE * (1 - _SMALL)), height)
        _paste(pixels, seen, (small[0], place[1], *small[2:]), seen.strength(share, fine=False), dimmed)
    left, top, wide, high = place
    across, down = wide / seen.layout.size[0], high / seen.layout.size[1]
    boxes = [[left + across * x0, top + down * y0, left + across * x1, top + down * y1] for x0, y0, x1, y1 in seen.boxes]
    return Sheet(pixels, boxes)


def _fitted(size: tuple[int, int], most: int, left: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of an image that fits into a square of ``most`` pixels, in the middle of a sheet's height."""
    scale = most / max(size)
    wide, high = (max(1, round(scale * edge)) for edge in size)
    return left + (most - wide) // 2, (height - high) // 2, wide, high


def _paste(pixels: np.ndarray, seen: View, place: tuple[int, int, int, int], strength: np.ndarray | None, dimmed: float) -> None:
    left, top, wide, high = place
    own = np.asarray(seen.image.convert("RGB"), dtype=float) / 255
    if strength is not None:
        own = own * (dimmed + (1 - dimmed) * strength)[..., None]
    if (wide, high) != seen.image.size:
        drawn = Image.fromarray(np.rint(255 * own).astype(np.uint8)).resize((wide, high), Image.Resampling.LANCZOS)
        own = np.asarray(drawn, dtype=float) / 255
    pixels[top : top + high, left : left + wide] = own
