"""Colours, markers and line styles of methods for the browser, as in the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parbench.figures.looks import INSIDE, TOWER, Look
from parbench.figures.style import luminance

_DASHES = {INSIDE: "5 3", TOWER: "7 3 1.5 3"}
# Background colours in light and dark mode: page, raised boxes, selection. They are the same as in report.css.
GROUNDS = (("#FFFFFF", "#F5F6F8", "#E8F1FB"), ("#15181E", "#1D2129", "#22324A"))
# Minimum contrast between a marker and its background (WCAG 2.2, 1.4.11).
_CONTRAST = 3.0


def looks(methods: Mapping[str, Look]) -> dict[str, dict[str, Any]]:
    """For each method its colours in light and dark mode, its marker as an SVG path one unit wide, and its dashes."""
    found = {}
    for name, own in methods.items():
        path, filled = _marker(own.marker)
        light, dark = (told_from(grounds, own.colour) for grounds in GROUNDS)
        found[name] = {
            "light": light,
            "dark": dark,
            "path": path,
            "filled": filled and not own.hollow,
            "group": own.group,
            "dash": _DASHES.get(own.group, ""),
        }
    return found


def told_from(grounds: Sequence[str], colour: str) -> str:
    """A colour, darkened on light backgrounds or lightened on dark ones until its contrast to each is sufficient."""
    towards = 0 if luminance(_parts(grounds[0])) > 0.5 else 255
    parts = _parts(colour)
    while min(contrast(_text(parts), ground) for ground in grounds) < _CONTRAST:
        parts = [_nearer(part, towards) for part in parts]
    return _text(parts)


def _nearer(part: int, towards: int) -> int:
    step = max(1, int(0.04 * abs(towards - part)))
    return max(part - step, 0) if towards < part else min(part + step, 255)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2), from 1 (equal) to 21 (black and white)."""
    low, high = sorted(luminance(_parts(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def _parts(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _text(parts: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02X}" for part in parts)


def _marker(name: str) -> tuple[str, bool]:
    """A matplotlib marker as an SVG path, and whether it can be filled."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.path import Path

    marker = MarkerStyle(name)
    letters = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}
    parts = []
    for points, code in marker.get_path().transformed(marker.get_transform()).iter_segments():
        # The y-axis of SVG points downwards.
        pairs = [f"{x:.3g} {-y + 0.0:.3g}" for x, y in zip(points[::2], points[1::2], strict=True)]
        parts.append("Z" if code == Path.CLOSEPOLY else letters[code] + " ".join(pairs))
    return "".join(parts), bool(marker.is_filled())
