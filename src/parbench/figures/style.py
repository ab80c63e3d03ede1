"""Colours of figures, and the two media for which they are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# The palette of Okabe and Ito (2008) without yellow, which is too light on white, and wine and indigo of Tol's muted palette.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE, WINE, INDIGO = "#D55E00", "#CC79A7", "#882255", "#332288"
HUES = (ORANGE, SKY, GREEN, BLUE, VERMILLION, PURPLE, WINE, INDIGO)
# Controls are grey and distinguished by their markers.
BLACK, DARK, MIDDLE, LIGHT = "#000000", "#444444", "#777777", "#9A9A9A"
GOOD, BAD, NEEDED = "#009E73", "#D55E00", "#56B4E9"


def ink(colour: str) -> str:
    """A colour, darkened until text in it is readable on white (contrast 4.5)."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    while 1.05 / (luminance(parts) + 0.05) < 4.5:
        parts = [int(0.95 * part) for part in parts]
    return "#" + "".join(f"{part:02X}" for part in parts)


def luminance(rgb: list[int]) -> float:
    """Relative luminance of a colour as in WCAG 2, 0..1, from red, green and blue in 0..255."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (p / 255 for p in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# Colours that all figures use: those of methods, of their labels, and greys from black to white.
_SOLID = (*HUES, DARK, MIDDLE, LIGHT)
_GREYS = ("#" + 3 * f"{part:02X}" for part in range(0, 256, 17))
COLOURS = frozenset((*_SOLID, *map(ink, _SOLID), *_GREYS))


@dataclass(frozen=True)
class Medium:
    """The medium of a figure: a screen, or a column of a paper.

    Attributes:
        ending: Suffix of the file, without dot.
        width: In inches.
        font: Font size in points.
        dpi: Pixels per inch; in a PDF only for images.
    """

    ending: str
    width: float
    font: float
    dpi: int = 150

    @property
    def narrow(self) -> bool:
        """Whether it is as narrow as a column of a paper."""
        return self.width < 5

    @property
    def fine(self) -> float:
        """Width of thin lines in points."""
        return 0.5 if self.narrow else 0.8


# GitHub shows a README about 900 pixels wide. The figure has 1350, and its font is 12 pixels high when scaled down.
SCREEN = Medium("png", 9.0, 8.5)
# A column of a two-column paper, with images at the resolution of print.
PAPER = Medium("pdf", 3.3, 6.2, dpi=300)


@contextmanager
def styled(medium: Medium) -> Iterator[Any]:
    """Matplotlib's settings for a medium, as a context. Yields matplotlib's class of figures, which needs no window system."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: Any = {
        "font.family": "DejaVu Sans",
        "font.size": medium.font,
        "axes.titlesize": medium.font + (0.5 if medium.narrow else 1.5),
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": medium.font,
        "xtick.labelsize": medium.font - 0.5,
        "ytick.labelsize": medium.font - 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": medium.fine,
        "axes.edgecolor": "0.35",
        "axes.labelcolor": "0.15",
        "text.color": "0.1",
        "xtick.color": "0.35",
        "ytick.color": "0.35",
        "xtick.labelcolor": "0.2",
        "ytick.labelcolor": "0.2",
        "xtick.major.width": medium.fine,
        "ytick.major.width": medium.fine,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "axes.grid": False,
        "grid.color": "0.9",
        "grid.linewidth": medium.fine,
        "axes.axisbelow": True,
        "lines.linewidth": 0.9 if medium.narrow else 1.4,
        "lines.markersize": 3 if medium.narrow else 5,
        "lines.markeredgewidth": 0.7 if medium.narrow else 1.1,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        # Type 42 keeps text in a PDF searchable.
        "pdf.fonttype": 42,
        # A question that contains $ is not a formula.
        "text.parse_math": False,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(settings)
        yield Figure
