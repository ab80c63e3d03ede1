"""Where the visual tokens of an image lie, as grids of boxes: small enough to be stored with a run, once for an image size."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from parbench.clips import Clip, sheet
from parbench.errors import ParbenchError
from parbench.results.packed import is_there, read_text
from parbench.results.samples import cause

if TYPE_CHECKING:
    from parbench.models.source import Source

FILE = "layouts.jsonl"
# Two edges that differ by less, in pixels, are one.
_NEAR = 1e-3
# Digits behind the point of a stored edge.
_DIGITS = 3
Edges = tuple[float, ...]


@dataclass(frozen=True)
class Grid:
    """Consecutive visual tokens that form a grid, in raster order.

    Attributes:
        kind: The kind of part that they belong to: ``image``, ``base``, ``thumbnail``, ``crop``, ``tile``, ``frame``.
        fine: Whether it is the finest kind of the image.
        x: Edges of the columns in pixels, one more than columns.
        y: Edges of the rows.
    """

    kind: str
    fine: bool
    x: Edges
    y: Edges

    @property
    def tokens(self) -> int:
        """Number of its tokens."""
        return (len(self.x) - 1) * (len(self.y) - 1)

    @property
    def boxes(self) -> np.ndarray:
        """[tokens, 4] left, top, right, bottom in pixels."""
        top, left = np.meshgrid(self.y[:-1], self.x[:-1], indexing="ij")
        bottom, right = np.meshgrid(self.y[1:], self.x[1:], indexing="ij")
        return np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)


@dataclass(frozen=True)
class Layout:
    """The boxes of the visual tokens of an image, without separators, in the order of the prompt.

    Attributes:
        size: Width and height of the image in pixels.
        grids: The tokens, grid after grid. Crops of one image that are stitched row by row are one grid.
    """

    size: tuple[int, int]
    grids: tuple[Grid, ...]

    @classmethod
    def of(cls, source: Source) -> Self:
        """The layout of a source; that of a video is of a picture of its frames (:func:`parbench.clips.sheet`)."""
        content = source.content
        fine = source.is_fine()[content].tolist()
        parts = source.part[content].tolist()
        kinds = [source.parts[number].kind for number in parts]
        size, corners = sheet(source.size, source.frames)
        boxes = source.box[content].tolist()
        if source.frames > 1:
            boxes = [
                [left + corner for left, corner in zip(box, 2 * corners[part], strict=True)]
                for part, box in zip(parts, boxes, strict=True)
            ]
        rows: list[_Row] = []
        for kind, is_fine, box in zip(kinds, fine, boxes, strict=True):
            if rows and rows[-1].takes(kind, box):
                rows[-1].add(box)
            else:
                rows.append(_Row(kind, is_fine, box))
        return cls(size, tuple(_grids(rows)))

    @property
    def tokens(self) -> int:
        """Number of its tokens."""
        return sum(grid.tokens for grid in self.grids)

    @property
    def frames(self) -> int:
        """Frames of a video with tokens of their own; 0 for an image."""
        return sum(grid.kind == "frame" for grid in self.grids)

    @cached_property
    def boxes(self) -> np.ndarray:
        """[tokens, 4] left, top, right, bottom in pixels."""
        return np.concatenate([np.empty((0, 4)), *(grid.boxes for grid in self.grids)])

    @cached_property
    def fine(self) -> np.ndarray:
        """[tokens] bool: whether each token is of the finest kind of part."""
        return np.concatenate([np.empty(0, bool), *(np.full(grid.tokens, grid.fine) for grid in self.grids)])

    def to_json(self) -> dict[str, Any]:
        """Its JSON form."""
        return {"size": list(self.size), "grids": [vars(grid) for grid in self.grids]}

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Self:
        """Read its JSON form.

        Raises:
            KeyError, TypeError, ValueError: It is not one.
        """
        width, height = found["size"]
        grids = [Grid(str(one["kind"]), bool(one["fine"]), _edges(one["x"]), _edges(one["y"])) for one in found["grids"]]
        return cls((int(width), int(height)), tuple(grids))


class _Row:
    """Consecutive tokens side by side."""

    def __init__(self, kind: str, fine: bool, box: list[float]) -> None:
        self.kind, self.fine = kind, fine
        self.top, self.bottom = box[1], box[3]
        self.x = [box[0], box[2]]

    def takes(self, kind: str, box: list[float]) -> bool:
        """Whether a box is the next one of the row."""
        beside = abs(box[0] - self.x[-1]) < _NEAR and box[2] >= box[0]
        return kind == self.kind and beside and abs(box[1] - self.top) < _NEAR and abs(box[3] - self.bottom) < _NEAR

    def add(self, box: list[float]) -> None:
        """Add the next box."""
        self.x.append(box[2])

    def is_under(self, other: _Row, bottom: float) -> bool:
        """Whether it is the next row of a grid whose rows are like another and end at ``bottom``."""
        alike = len(self.x) == len(other.x) and np.allclose(self.x, other.x, rtol=0, atol=_NEAR)
        return self.kind == other.kind and alike and abs(self.top - bottom) < _NEAR


def _grids(rows: Iterable[_Row]) -> Iterable[Grid]:
    first: _Row | None = None
    edges: list[float] = []
    for row in rows:
        if first is not None and row.is_under(first, edges[-1]):
            edges.append(row.bottom)
            continue
        if first is not None:
            yield _grid(first, edges)
        first, edges = row, [row.top, row.bottom]
    if first is not None:
        yield _grid(first, edges)


def _grid(row: _Row, y: list[float]) -> Grid:
    return Grid(row.kind, row.fine, _edges(row.x), _edges(y))


def _edges(values: Iterable[float]) -> Edges:
    return tuple(round(float(value), _DIGITS) for value in values)


def read_layouts(folder: Path) -> dict[tuple[int, int], Layout]:
    """The layouts of a run by image size; empty for a model that sees the centre square of an image, whose runs store none.

    Raises:
        ParbenchError: The file is damaged.
    """
    path = folder / FILE
    if not is_there(path):
        return {}
    try:
        lines = read_text(path).splitlines(keepends=True)
        # The incomplete last line of a killed run is left out.
        found = [Layout.parse(json.loads(line)) for line in lines if line.endswith("\n")]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ParbenchError(f"{path} is damaged ({cause(error)}): delete the run's folder and run again") from error
    return {layout.size: layout for layout in found}


def pictured(visual: Image.Image | Clip, steps: int | None) -> Image.Image:
    """What stands in a picture for a visual: an image itself, and of a video its frames.

    Args:
        visual: The image or video.
        steps: Frames of a video that have tokens of their own, as its samples record them (``frames``); None if no sample does,
            so that it has no tokens to draw. Of an image it does not matter.
    """
    return visual.sheet(_drawn(visual, steps)) if isinstance(visual, Clip) else visual


def pictured_boxes(
    visual: Image.Image | Clip,
    steps: int | None,
    boxes: Sequence[Sequence[float]],
    frames: Sequence[int] | None,
) -> list[list[float]]:
    """Boxes in an image or in frames of a video as boxes in what stands in a picture for it (:func:`pictured`).

    Args:
        visual: The image or video.
        steps: As for :func:`pictured`.
        boxes: (x0, y0, x1, y1) in pixels of the image or of a frame.
        frames: The number of the frame of each box; None for an image.
    """
    if isinstance(visual, Clip) and frames is not None:
        return visual.on_sheet(boxes, frames, _drawn(visual, steps))
    return [list(box) for box in boxes]


def _drawn(clip: Clip, steps: int | None) -> int:
    """How many frames of a video its picture shows."""
    return len(clip.frames) if steps is None else steps


def square_layout(side: int, rows: int, columns: int) -> Layout:
    """The layout of a centre square, ``side`` pixels wide, that is a grid of tokens."""
    x, y = (tuple(side * number / count for number in range(count + 1)) for count in (columns, rows))
    return Layout((side, side), (Grid("image", True, x, y),))
