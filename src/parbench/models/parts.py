"""The parts of an image, such as crops, tiles or frames, as methods see them: which token lies where in which part."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.source import Part, Source, frames_among

# Kinds of parts that show all of an image, beside others that show it larger.
_OVERVIEWS = ("base", "thumbnail")


@dataclass(frozen=True)
class Parts:
    """How an image is cut into parts, for the N tokens that show it, without separators. Equal for images that are cut alike.

    A method reads it as ``probes.parts``. It then sees the tokens of all parts at once, and may divide its budget among them.

    Attributes:
        parts: The parts. A box is left, top, right, bottom in shares of the rectangle that the parts show together.
        part: [N] index of each token's part, on the CPU.
        cell: [N] index of each token's cell in the grid of its part, in raster order, on the CPU.
    """

    parts: tuple[Part, ...]
    part: Tensor = field(compare=False, repr=False)
    cell: Tensor = field(compare=False, repr=False)
    _key: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Remember what tells two cuts apart."""
        object.__setattr__(self, "_key", torch.stack([self.part, self.cell]).numpy().tobytes())

    @classmethod
    def of(cls, source: Source) -> Self:
        """The parts of an image with some source."""
        boxes = torch.tensor([part.box for part in source.parts], dtype=torch.float64)
        corner, end = boxes[:, :2].amin(0).repeat(2), boxes[:, 2:].amax(0).repeat(2)
        shares = ((boxes - corner) / (end - corner).clamp(min=1e-9)).tolist()
        parts = [replace(part, box=(a, b, c, d)) for part, (a, b, c, d) in zip(source.parts, shares, strict=True)]
        return cls(tuple(parts), source.part[source.content], source.cell[source.content])

    @classmethod
    def whole(cls, tokens: int, grid: tuple[int, int]) -> Self:
        """An image of one part with a grid, or with (0, 0) in one row."""
        rows, columns = grid if grid[0] * grid[1] == tokens else (1, tokens)
        return cls((Part("image", rows, columns, (0, 0, 1, 1)),), torch.zeros(tokens, dtype=torch.long), torch.arange(tokens))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of tokens of each part."""
        return tuple(torch.bincount(self.part, minlength=len(self.parts)).tolist())

    @property
    def frames(self) -> int:
        """Frames of a video; 1 for an image."""
        return frames_among(self.parts)

    @property
    def overview(self) -> int:
        """The index of the part that shows all of the image: the base, the thumbnail, or the only part.

        Raises:
            ParbenchError: No part does, as for frames of a video.
        """
        if len(self.parts) == 1:
            return 0
        for number, part in enumerate(self.parts):
            if part.kind in _OVERVIEWS:
                return number
        raise ParbenchError(
            f"this method divides its budget by an overview of the image, which an input of {len(self.parts)} parts of the kind "
            f"{self.parts[0].kind} does not have: use another method"
        )

    @property
    def details(self) -> list[int]:
        """The indices of the other parts, each of which shows a piece of the image."""
        return [number for number in range(len(self.parts)) if number != self.overview]

    def tokens(self, number: int) -> Tensor:
        """[n] the tokens of a part, in the order of the prompt."""
        return (self.part == number).nonzero().flatten()

    def shown(self) -> Tensor:
        """[n, K] float64: of the area of each token of the overview, the share that each of the K ``details`` shows."""
        overview = self.parts[self.overview]
        cell = self.cell[self.tokens(self.overview)]
        boxes = torch.tensor([self.parts[number].box for number in self.details], dtype=torch.float64).view(-1, 4)
        x = _shared(cell % overview.columns, overview.columns, boxes[:, 0], boxes[:, 2])
        return x * _shared(cell // overview.columns, overview.rows, boxes[:, 1], boxes[:, 3])

    def canvas(self) -> tuple[tuple[int, int], Tensor, Tensor]:
        """The grid that the tokens of all details form together.

        Returns:
            Its rows and columns; the row and the column of each token [N], meaningless for those of the overview.
        """
        place = torch.tensor([part.box[:2] for part in self.parts], dtype=torch.float64)
        length = torch.tensor([[part.rows, part.columns] for part in self.parts])
        inner = torch.stack([self.cell // length[self.part, 1], self.cell % length[self.part, 1]], dim=1)
        detail = self.part != self.overview
        found, counts = [], []
        for axis, corner in enumerate((place[:, 1], place[:, 0])):
            tile = corner.unique(return_inverse=True)[1]
            line = tile[self.part] * int(length[:, axis].max()) + inner[:, axis]
            lines = line[detail].unique()
            found.append(torch.searchsorted(lines, line).clamp(max=max(0, len(lines) - 1)))
            counts.append(len(lines))
        return (counts[0], counts[1]), found[0], found[1]


def _shared(line: Tensor, lines: int, begin: Tensor, end: Tensor) -> Tensor:
    """[n, K] the shares of lines [n], of ``lines`` from 0 to 1, that lie between ``begin`` and ``end`` [K]."""
    low = line[:, None].double()
    return (torch.minimum(low + 1, end * lines) - torch.maximum(low, begin * lines)).clamp(min=0)
