"""Clips as film strips: frames in a row, with the boxes of what a question needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from parbench.clips import Clip
from parbench.figures.kept_tokens import NEEDED

# Inches: side of the longest edge of a frame, and height of a caption.
_FRAME, _CAPTION = 1.1, 0.28


@dataclass(frozen=True)
class Strip:
    """A clip to be drawn.

    Attributes:
        clip: It.
        caption: Text above it, such as question and answer.
        boxes: Boxes of what a question needs, in pixels of the frames.
        frames: The number of the frame of each box.
    """

    clip: Clip
    caption: str
    boxes: Sequence[Sequence[float]] = ()
    frames: Sequence[int] = ()


def strips_figure(strips: Sequence[Strip]) -> Figure:
    """Draw clips below each other, each as its frames in a row with their times in seconds."""
    most = max(len(strip.clip.frames) for strip in strips)
    heights = [_FRAME * strip.clip.height / max(strip.clip.size) + _CAPTION for strip in strips]
    figure = Figure(figsize=(_FRAME * most, sum(heights)), dpi=100)
    top = sum(heights)
    for strip, height in zip(strips, heights, strict=True):
        figure.text(0.006, (top - 0.2) / sum(heights), strip.caption, fontsize=9, parse_math=False)
        for number, (frame, time) in enumerate(zip(strip.clip.frames, strip.clip.times, strict=True)):
            place = (number / most, (top - height) / sum(heights), 0.97 / most, (height - _CAPTION) / sum(heights))
            axis = figure.add_axes(place)
            axis.imshow(frame, aspect="auto")
            axis.text(0.03, 0.97, f"{time:g} s", transform=axis.transAxes, fontsize=6, va="top", color="white")
            axis.set_axis_off()
            for (x0, y0, x1, y1), of in zip(strip.boxes, strip.frames, strict=True):
                if of == number:
                    axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=NEEDED, linewidth=1.5))
        top -= height
    return figure
