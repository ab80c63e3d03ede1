"""How methods look in a browser: the colours, markers and lines of the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parbench.figures.looks import INSIDE, TOWER, Look
from parbench.figures.style import luminance

_DASHES = {INSIDE: "5 3", TOWER: "7 3 1.5 3"}
# The page's background in the dark, see report.css.
_DARK = (0x15, 0x18, 0x1E)


def looks(methods: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """For each method its colours on light and dark ground, marker as an SVG path one unit wide, and dashes."""
    found = {}
    for name, own in methods.items():
        path, filled = _marker(own.marker)
        found[name] = {
            "light": own.colour,
            "dark": lightened(own.colour),
            "path": path,
            "filled": filled and not own.hollow,
            "group": own.group,
            "dash": _DASHES.get(own.group, ""),
        }
    return found


def lightened(colour: str, contrast: float = 3.0) -> str:
    """A colour, lightened until it can be told from dark ground."""
    parts = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    ground = luminance(list(_DARK)) + 0.05
    while (luminance(parts) + 0.05) / ground < contrast:
        parts = [min(255, int(part + 0.08 * (255 - part)) + 1) for part in parts]
    return "#" + "".join(f"{part:02X}" for part in parts)


def _marker(name: str) -> tuple[str, bool]:
    """A matplotlib marker as an SVG path, and whether it has an inside."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.path import Path

    marker = MarkerStyle(name)
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    parts = []
    for points, code in marker.get_path().transformed(marker.get_transform()).iter_segments():
        # SVG counts downwards.
        pairs = [f"{x:.3g} {-y + 0.0:.3g}" for x, y in zip(points[::2], points[1::2], strict=True)]
        parts.append("Z" if code == Path.CLOSEPOLY else letters[code] + " ".join(pairs))
    return "".join(parts), bool(marker.is_filled())
