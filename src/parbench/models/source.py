"""Where the visual tokens of an image come from: boxes in pixels of the image as given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Part:
    """A rectangle of an image that the vision tower sees at once, and its grid of visual tokens.

    Attributes:
        kind: ``image`` (all of it), ``base`` or ``thumbnail`` (all of it, beside crops or tiles), ``crop``, ``tile``, ``frame``.
        rows, columns: Its grid of visual tokens. A crop that reaches beyond the image may have fewer tokens than cells.
        box: Left, top, right, bottom in pixels.
        time: Seconds from the beginning, for a frame of a video.
        frames: For a video the numbers of the frames that it shows, from 0: one, or those of a time step.
    """

    kind: str
    rows: int
    columns: int
    box: Box
    time: float = 0.0
    frames: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """The origin of the n visual tokens of one image, in the order of the prompt. All tensors are on the CPU.

    Attributes:
        size: Width and height of the image in pixels.
        box: [n, 4] float64 left, top, right, bottom in pixels, clipped to the image.
        part: [n] index of each token's part.
        cell: [n] index of each token's cell in the grid of its part, in raster order.
        separator: [n] bool, tokens that show nothing of the image, such as the newline at the end of a row.
        parts: The parts.
    """

    size: tuple[int, int]
    box: Tensor
    part: Tensor
    cell: Tensor
    separator: Tensor
    parts: tuple[Part, ...]
    _content: Tensor = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the tokens that show the image."""
        object.__setattr__(self, "_content", (~self.separator).nonzero().flatten())

    def __len__(self) -> int:
        """Number of tokens, separators included."""
        return len(self.separator)

    @property
    def content(self) -> Tensor:
        """[N] indices of the tokens that show the image, without separators."""
        return self._content

    @property
    def frames(self) -> int:
        """Frames of a video; 1 for an image."""
        return frames_among(self.parts)

    @property
    def seconds(self) -> float | None:
        """Seconds of a video: its frames times the mean time from one to the next. None for an image or a single frame."""
        times = [part.time for part in self.parts if part.kind == "frame"]
        return (times[-1] - times[0]) * len(times) / (len(times) - 1) if len(times) > 1 else None

    @property
    def fine(self) -> int:
        """The part with most tokens a pixel; among equals, all have its kind (see :meth:`is_fine`)."""
        return max(range(len(self.parts)), key=lambda number: _density(self.parts[number]))

    def is_fine(self) -> Tensor:
        """[n] bool, the tokens of parts of the finest kind, such as crops and not the base."""
        kind = self.parts[self.fine].kind
        fine = torch.tensor([part.kind == kind for part in self.parts])
        return fine[self.part] & ~self.separator


def frames_among(parts: Sequence[Part]) -> int:
    """The number of frames among parts; 1 for those of an image."""
    return sum(part.kind == "frame" for part in parts) or 1


def _density(part: Part) -> float:
    left, top, right, bottom = part.box
    return part.rows * part.columns / max((right - left) * (bottom - top), 1e-9)


def are_frames(parts: Sequence[Part]) -> bool:
    """Whether parts are the frames of a video."""
    return all(part.kind == "frame" for part in parts)


def cells(rows: int, columns: int, box: Box) -> Tensor:
    """[rows x columns, 4] float64: the equal cells of a rectangle, in raster order."""
    left, top, right, bottom = box
    ys = torch.linspace(top, bottom, rows + 1, dtype=torch.float64)
    xs = torch.linspace(left, right, columns + 1, dtype=torch.float64)
    upper, lefts = torch.meshgrid(ys[:-1], xs[:-1], indexing="ij")
    lower, rights = torch.meshgrid(ys[1:], xs[1:], indexing="ij")
    return torch.stack([lefts, upper, rights, lower], dim=-1).flatten(0, 1)


def clipped(box: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] clipped to an image of ``size`` (width, height)."""
    most = torch.tensor([*size, *size], dtype=box.dtype)
    return torch.minimum(box.clamp(min=0), most)


def with_newline(source: Source) -> Source:
    """The source of tokens with a separator behind the last of them."""
    box, part, cell = (torch.cat([value, value[-1:]]) for value in (source.box, source.part, source.cell))
    separator = torch.cat([source.separator, torch.ones(1, dtype=torch.bool)])
    return Source(source.size, box, part, cell, separator, source.parts)


def grids(size: tuple[int, int], parts: Sequence[Part]) -> Source:
    """The source of an image whose tokens are whole grids, part after part, without separators."""
    counts = torch.tensor([part.rows * part.columns for part in parts])
    box = torch.cat([cells(part.rows, part.columns, part.box) for part in parts])
    cell = torch.cat([torch.arange(count) for count in counts.tolist()])
    index = torch.arange(len(parts)).repeat_interleave(counts)
    return Source(size, clipped(box, size), index, cell, torch.zeros(len(cell), dtype=torch.bool), tuple(parts))


@lru_cache(maxsize=64)
def grid_source(size: tuple[int, int], rows: int, columns: int) -> Source:
    """The source of an image of ``size`` (width, height) that is one grid of tokens."""
    return grids(size, [Part("image", rows, columns, (0, 0, *size))])
