"""Placement of labels next to points and lines, without overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from parbench.figures.looks import Look
from parbench.figures.style import Medium

# Candidate positions of a label relative to its point: distances in font sizes, and directions in order of preference.
_FAR = (0.8, 1.6, 2.6, 3.8, 5.2, 6.8)
_DIRECTIONS = (
    (1, 0),
    (-1, 0),
    (0.7, 0.7),
    (0.7, -0.7),
    (-0.7, 0.7),
    (-0.7, -0.7),
    (0, 1),
    (0, -1),
    (0.9, 0.4),
    (0.9, -0.4),
    (-0.9, 0.4),
    (-0.9, -0.4),
)


# Height of a label in a column, in font sizes.
ROW = 1.3


@dataclass(frozen=True)
class Named:
    """A point with a label.

    Attributes:
        name: The text.
        look: Colour and marker.
        x: In data coordinates.
        y: In data coordinates.
    """

    name: str
    look: Look
    x: float
    y: float


def width_of(names: Sequence[str], size: float) -> float:
    """Width in inches of the longest of some texts, at a font size in points."""
    return max((_width(name, size) for name in names), default=0.0)


@cache
def _width(name: str, size: float) -> float:
    from matplotlib.textpath import TextPath

    across = np.asarray(TextPath((0, 0), name, size=size).vertices)[:, 0]
    return float(np.ptp(across)) / 72 if len(across) else 0.0


def spread(wanted: Sequence[float], height: float, low: float, high: float) -> list[float]:
    """Positions of labels without overlap, as close as possible to the wanted ones and in the same order.

    Neighbours that are too close are moved apart around their mean (isotonic regression). Then all positions are moved into the
    range. If the range is too small for all labels, they are spaced evenly and overlap.

    Args:
        wanted: Wanted positions of the centres.
        height: Height of every label.
        low: Lower end of the range.
        high: Upper end of the range.
    """
    if not wanted:
        return []
    step = min(height, (high - low) / len(wanted))
    order = np.argsort(np.asarray(wanted), kind="stable")
    # Minus rank times step, positions must not decrease: the pool-adjacent-violators algorithm.
    blocks: list[tuple[float, int]] = []
    for rank, place in enumerate(order):
        value, count = wanted[place] - rank * step, 1
        while blocks and blocks[-1][0] > value:
            before, members = blocks.pop()
            value, count = (before * members + value * count) / (members + count), members + count
        blocks.append((value, count))
    base = np.repeat([value for value, _ in blocks], [count for _, count in blocks])
    base = base.clip(low + step / 2, high - step / 2 - (len(wanted) - 1) * step)
    places = np.empty(len(wanted))
    places[order] = base + step * np.arange(len(wanted))
    return places.tolist()


def column(axis: Any, medium: Medium, entries: Sequence[Named]) -> None:
    """Draw labels in a column to the right of axes, each with its marker and a thin line to its point.

    The limits of the axes must be set before.
    """
    if not entries:
        return
    box, point = axis.get_window_extent(), axis.figure.dpi / 72
    pixels = axis.transData.transform([(one.x, one.y) for one in entries])
    above = 0.5 * medium.font * point
    places = spread(pixels[:, 1].tolist(), ROW * medium.font * point, box.y0 - above, box.y1 + above)
    edge = box.x1 + 1.6 * medium.font * point
    for one, (x, y), place in zip(entries, pixels, places, strict=True):
        elbow = edge - 1.1 * medium.font * point
        line = axis.transAxes.inverted().transform(
            [(x + 0.6 * medium.font * point, y), (max(elbow, x), place), (edge - 0.5 * medium.font * point, place)]
        )
        # Horizontal up to the edge of the column, so that the line crosses as little as possible.
        bend = axis.transAxes.inverted().transform((max(x + 0.6 * medium.font * point, elbow - 0.8 * medium.font * point), y))
        path = np.array([line[0], bend, line[1], line[2]])
        axis.plot(*path.T, transform=axis.transAxes, color=one.look.colour, linewidth=0.5, alpha=0.7, clip_on=False, zorder=1)
        at = axis.transAxes.inverted().transform([(edge, place), (edge + 0.8 * medium.font * point, place)])
        mark(axis, one.look, *at[0], transform=axis.transAxes, clip_on=False)
        axis.text(*at[1], one.name, transform=axis.transAxes, color=one.look.ink, va="center_baseline", clip_on=False)


def row_names(axis: Any, medium: Medium, names: Sequence[tuple[str, Look]]) -> None:
    """Draw the labels of rows 0, 1, ... to the left of axes, each with its marker."""
    size = medium.font * axis.figure.dpi / 72 / axis.get_window_extent().width
    there = axis.get_yaxis_transform()
    for row, (name, look) in enumerate(names):
        mark(axis, look, -0.9 * size, row, transform=there, clip_on=False)
        axis.text(-1.7 * size, row, name, transform=there, ha="right", va="center_baseline", color=look.ink)


def trace(axis: Any, look: Look, x: Any, y: Any, **more: Any) -> None:
    """Draw the line of a method, without markers. ``more`` are arguments of matplotlib's ``plot``."""
    axis.plot(x, y, color=look.colour, linestyle=look.line, **more)


def mark(axis: Any, look: Look, x: Any, y: Any, **more: Any) -> None:
    """Draw markers of a method at points, without a line. ``more`` are arguments of matplotlib's ``plot``."""
    import matplotlib
    from matplotlib.markers import MarkerStyle

    # A marker that is a letter is a formula to matplotlib.
    with matplotlib.rc_context({"text.parse_math": True}):
        shape = MarkerStyle(look.marker)
    face = "white" if look.hollow else look.colour
    axis.plot(
        x,
        y,
        **{
            "linestyle": "none",
            "marker": shape,
            "color": look.colour,
            "markerfacecolor": face,
            "zorder": 4,
            **more,
        },
    )


def beside(axis: Any, medium: Medium, entries: Sequence[Named], taken: np.ndarray) -> None:
    """Draw labels inside axes, each near its point. The limits of the axes must be set before.

    Args:
        axis: The axes.
        medium: The medium of the figure, for the font size.
        entries: The labels and their points.
        taken: [P, 2] further points in data coordinates that labels should not cover.
    """
    if not entries:
        return
    point = axis.figure.dpi / 72
    size = medium.font * point
    own = axis.transData.transform([(one.x, one.y) for one in entries])
    free = np.concatenate([own, axis.transData.transform(taken)]) if len(taken) else own
    boxes = [
        _boxes(spot, (width_of([one.name], medium.font) + 0.03) * axis.figure.dpi, size)
        for one, spot in zip(entries, own, strict=True)
    ]
    chosen = _arranged(boxes, free, axis.get_window_extent())
    for one, spot, place, options in zip(entries, own, chosen, boxes, strict=True):
        x0, y0, x1, y1 = options[place][:4]
        if options[place][4] > _FAR[1] * size:
            near = np.array([np.clip(spot[0], x0, x1), np.clip(spot[1], y0, y1)])
            ends = axis.transData.inverted().transform([spot, near])
            axis.plot(*ends.T, color=one.look.colour, linewidth=0.5, alpha=0.8, zorder=2)
        at = axis.transData.inverted().transform((x0, (y0 + y1) / 2))
        behind = {"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.4}
        axis.text(*at, one.name, color=one.look.ink, va="center_baseline", zorder=5, bbox=behind)


def _boxes(spot: np.ndarray, width: float, size: float) -> np.ndarray:
    """The candidate boxes of a label [C, 5] in pixels: left, bottom, right, top, and distance from its point."""
    found = []
    for far, (across, up) in product(_FAR, _DIRECTIONS):
        x, y = spot[0] + across * far * size, spot[1] + up * far * size
        left = x if across > 0.1 else x - width if across < -0.1 else x - width / 2
        found.append((left, y - 0.6 * size, left + width, y + 0.6 * size, far * size))
    return np.array(found)


def _arranged(boxes: Sequence[np.ndarray], free: np.ndarray, frame: Any) -> list[int]:
    """Choose a box for each label.

    The cost of a box is the sum of penalties for covered points, overlap with other labels, leaving the frame, and distance. Each
    label in turn takes its cheapest box, until nothing changes.

    Args:
        boxes: The candidate boxes of each label, [C, 5] in pixels.
        free: [P, 2] points in pixels that should stay visible.
        frame: Bounding box of the axes in pixels.

    Returns:
        For each label, the index of its box.
    """
    costs = []
    for mine in boxes:
        covers = (
            (free[:, 0] > mine[:, :1] - 2)
            & (free[:, 0] < mine[:, 2:3] + 2)
            & (free[:, 1] > mine[:, 1:2] - 1)
            & (free[:, 1] < mine[:, 3:4] + 1)
        ).sum(axis=1)
        outside = (mine[:, 0] < frame.x0) | (mine[:, 2] > frame.x1) | (mine[:, 1] < frame.y0) | (mine[:, 3] > frame.y1)
        costs.append(4.0 * covers + 60.0 * outside + mine[:, 4] / mine[0, 4] + 0.02 * np.arange(len(mine)))
    chosen = [int(cost.argmin()) for cost in costs]
    for _ in range(12):
        before = list(chosen)
        for number, mine in enumerate(boxes):
            others = np.array([boxes[other][place] for other, place in enumerate(chosen) if other != number])
            total = costs[number].copy()
            if len(others):
                total += 80.0 * _overlaps(mine, others).sum(axis=1)
            chosen[number] = int(total.argmin())
        if chosen == before:
            break
    return chosen


def _overlaps(mine: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[C, O] bool: whether each of some boxes [C, 5] overlaps each of the others [O, 5]."""
    return (
        (mine[:, None, 0] < others[None, :, 2] + 1)
        & (others[None, :, 0] < mine[:, None, 2] + 1)
        & (mine[:, None, 1] < others[None, :, 3])
        & (others[None, :, 1] < mine[:, None, 3])
    )
