"""Frames of a video as one visual of a question.

A task shows a video by its ``doc_to_visual``. Each visual in the list that it returns is an image, a :class:`Clip`, or the path of
a video file (``str`` or ``Path``). A file is decoded, and its frames are sampled as the data set's settings say. A clip is shown as
it is. If the function reads no other column of its row than those with images, questions about one clip share its visual tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from parbench.errors import UnfitSample

# How many images a question has; or, if any is a video, the kind of each visual: image or video.
Visuals = int | Sequence[str]


def kinds_of(visuals: Visuals) -> tuple[str, ...]:
    """The kind of each visual of a question: image or video."""
    return ("image",) * visuals if isinstance(visuals, int) else tuple(visuals)


# Pixels between the frames of a sheet.
_GAP = 2


def sheet(size: tuple[int, int], count: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Where the frames of a video lie in a picture of all of them, in order, row by row.

    Args:
        size: Width and height of a frame.
        count: Number of frames.

    Returns:
        Width and height of the picture; left and top of each frame. Rows are full, so that the size tells how many frames it holds.
    """
    columns = next(number for number in range(math.isqrt(count - 1) + 1, count + 1) if count % number == 0)
    across, down = size[0] + _GAP, size[1] + _GAP
    places = [(number % columns * across, number // columns * down) for number in range(count)]
    return (columns * across - _GAP, count // columns * down - _GAP), places


@dataclass(frozen=True)
class Clip:
    """Frames of a video.

    Attributes:
        frames: The frames, all of one size.
        times: Seconds of each from the beginning.
    """

    frames: tuple[Image.Image, ...]
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the frames.

        Raises:
            UnfitSample: There are none, or they differ in size or number from the times.
        """
        if not self.frames or len(self.frames) != len(self.times) or len({frame.size for frame in self.frames}) > 1:
            raise UnfitSample(
                f"a video of {len(self.frames)} frames and {len(self.times)} times: it needs frames of one size and a time for each"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame."""
        return self.frames[0].size

    @property
    def width(self) -> int:
        """Width of a frame."""
        return self.size[0]

    @property
    def height(self) -> int:
        """Height of a frame."""
        return self.size[1]

    def convert(self, mode: str) -> Clip:
        """The same with frames in a mode of PIL, such as RGB."""
        return Clip(tuple(frame.convert(mode) for frame in self.frames), self.times)

    def sheet(self, count: int) -> Image.Image:
        """A picture of ``count`` of the frames, the first of each of as many equal runs; see :func:`sheet`."""
        whole, places = sheet(self.size, count)
        made = Image.new("RGB", whole, "white")
        for number, place in zip(self.first_of_runs(count), places, strict=True):
            made.paste(self.frames[number], place)
        return made

    def first_of_runs(self, count: int) -> list[int]:
        """The numbers of the first frames of ``count`` equal runs."""
        run = -(-len(self.frames) // count)
        return [min(number * run, len(self.frames) - 1) for number in range(count)]

    def on_sheet(self, boxes: Sequence[Sequence[float]], frames: Sequence[int], count: int) -> list[list[float]]:
        """Boxes in frames as boxes in the picture of :meth:`sheet`.

        Args:
            boxes: (x0, y0, x1, y1) in pixels of a frame.
            frames: The number of the frame of each.
            count: How many frames the picture shows. Of a run with boxes in its other frames alone, those of the first are drawn.
        """
        _, places = sheet(self.size, count)
        run = -(-len(self.frames) // count)
        drawn = {number: min(frame for frame in frames if frame // run == number) for number in {frame // run for frame in frames}}
        corners = [(box, places[frame // run]) for box, frame in zip(boxes, frames, strict=True) if drawn[frame // run] == frame]
        return [[x0 + left, y0 + top, x1 + left, y1 + top] for (x0, y0, x1, y1), (left, top) in corners]

    def in_pairs(self) -> Clip:
        """The same with an even number of frames; the last one is repeated if needed."""
        if len(self.frames) % 2 == 0:
            return self
        return Clip((*self.frames, self.frames[-1]), (*self.times, self.times[-1]))


def times_of(visual: Image.Image | Clip) -> tuple[float, ...] | None:
    """Seconds of the frames of a video; None for an image."""
    return visual.times if isinstance(visual, Clip) else None
