"""Layout of figures: panels of exact sizes, with a note below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from parbench.figures.style import Medium


@dataclass(frozen=True)
class Margins:
    """Room around each panel in inches.

    Attributes:
        left: Left of the first panel, or of every panel if they are one below the other.
        next: Left of further panels, if they are side by side.
        right: For labels.
        bottom: For ticks and the title of the x-axis.
        top: For the panel's title.
    """

    left: float
    next: float
    right: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Arrangement:
    """The panels of a figure.

    Attributes:
        count: Number of panels.
        height: Height of the axes of a panel in inches.
        across: Whether panels are side by side; otherwise they are one below the other.
    """

    count: int
    height: float
    across: bool


def panels(figure_class: Any, medium: Medium, arrangement: Arrangement, margins: Margins, note: str) -> tuple[Any, list[Any]]:
    """A figure with panels of equal size and a note below.

    Args:
        figure_class: Matplotlib's class of figures.
        medium: The medium, which determines the width of the figure.
        arrangement: Number, height and order of the panels.
        margins: Room around each panel.
        note: Text of the note.

    Returns:
        The figure, and the axes of the panels.
    """
    count, height, across = arrangement.count, arrangement.height, arrangement.across
    rows = 1 if across else count
    beneath, draw_note = lines_beneath(medium, note)
    cell = margins.bottom + height + margins.top
    whole = rows * cell + beneath
    lefts = [margins.left if number == 0 or not across else margins.next for number in range(count)]
    width = (medium.width - sum(lefts[: count // rows]) - count // rows * margins.right) / (count // rows)
    figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)
    axes = []
    for number in range(count):
        left = margins.left + (number * (width + margins.right + margins.next) if across else 0)
        bottom = whole - (1 if across else number + 1) * cell + margins.bottom
        axes.append(axes_at(figure, left, bottom, width, height))
    draw_note(figure)
    return figure, axes


def axes_at(figure: Any, left: float, bottom: float, width: float, height: float) -> Any:
    """Axes at a position in inches."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up))


def lines_beneath(medium: Medium, note: str) -> tuple[float, Callable[[Any], None]]:
    """Layout of a note at the bottom of a figure: its height in inches, and a function that writes it to the figure."""
    small = medium.font - (0.8 if medium.narrow else 1)
    lines = wrap(note, int(medium.width * 72 / (0.54 * small)))

    def write(figure: Any) -> None:
        left, bottom = 0.06 / figure.get_figwidth(), 0.05 / figure.get_figheight()
        figure.text(left, bottom, "\n".join(lines), fontsize=small, color="0.4", va="bottom", linespacing=1.3)

    return 1.35 * small * len(lines) / 72 + 0.06, write


# Line styles of none and of chance.
NONE, CHANCE = (0, (4, 3)), (0, (1, 2))


def reference(panel: Any, medium: Medium, place: float, style: Any, *, upright: bool = False) -> None:
    """Draw a reference line across a panel.

    Args:
        panel: The axes.
        medium: The medium of the figure, for the width of the line.
        place: Its position in data coordinates.
        style: Matplotlib's line style.
        upright: Whether it is vertical.
    """
    draw = panel.axvline if upright else panel.axhline
    draw(place, color="0.15", linewidth=medium.fine, linestyle=style, zorder=1.5)
