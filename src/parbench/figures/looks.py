"""Colour, marker and line style of each method, the same in every figure: from ``style`` in its YAML, or from its name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from parbench.config.groups import option_files
from parbench.errors import ParbenchError
from parbench.figures import style
from parbench.figures.style import DARK, HUES, LIGHT, MIDDLE, ink

# Groups of methods by the place where they reduce, shown by the line style, and the controls.
BEFORE, TOWER, INSIDE, CONTROL = "before the LLM", "inside the tower", "inside the LLM", "controls"
LINES = {BEFORE: "solid", TOWER: "dashdot", INSIDE: "dashed", CONTROL: "solid"}
# Names in YAML files. Related methods share a hue, one of them with a hollow marker; controls are grey.
_GROUPS = {"before": BEFORE, "tower": TOWER, "inside": INSIDE, "control": CONTROL}
_HUES = ("orange", "sky", "green", "blue", "vermillion", "purple", "wine", "indigo")
_GREYS = ("black", "dark", "middle", "light")
_SITES = {
    "pixels": BEFORE,
    "tokens": BEFORE,
    "tower": TOWER,
    "layers": INSIDE,
    "mask": INSIDE,
    "feedforward": INSIDE,
    "keys": INSIDE,
}


@dataclass(frozen=True)
class Look:
    """The appearance of a method in figures.

    Attributes:
        group: The place where it reduces, or the group of controls.
        colour: Colour of line, band and marker.
        marker: Matplotlib's name of the marker.
        hollow: Whether the marker is an outline.
    """

    group: str
    colour: str
    marker: str
    hollow: bool = False

    @property
    def line(self) -> str:
        """Matplotlib's name of the line style."""
        return LINES[self.group]

    @property
    def ink(self) -> str:
        """The colour for text, darkened to be readable on white."""
        return ink(self.colour)


def look(method: str, group: str | None = None) -> Look:
    """The look of a method: from its YAML, or its first letter as marker in a colour chosen by a hash of its name.

    Args:
        method: Its name.
        group: Its group as recorded in a run (see :func:`group_of`); None to take it from its YAML or its class.

    Raises:
        ParbenchError: ``style`` in its YAML is invalid.
    """
    found = looks(tuple(option_files("method").values()))
    own = found.get(method)
    if own is None or (group is not None and (group == CONTROL) != (own.group == CONTROL)):
        return _unused(method, group or BEFORE, found)
    return own if group is None else replace(own, group=group)


def group_of(site: Any, control: bool) -> str | None:
    """The group of a method as recorded in a run; None if it is not recorded.

    Args:
        site: The recorded site of the method; not a text in runs of older formats.
        control: Whether it is a control.
    """
    return CONTROL if control else _SITES.get(site)


@lru_cache(maxsize=8)
def looks(files: tuple[Path, ...]) -> Mapping[str, Look]:
    """The looks of the methods in some YAML files. Those without a ``style`` get distinct looks, as far as possible.

    Raises:
        ParbenchError: A ``style`` is invalid.
    """
    settings = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in files}
    found = {name: _declared(name, said) for name, said in settings.items() if "style" in said}
    for name in sorted(settings.keys() - found):
        found[name] = _unused(name, _group(settings[name]), found)
    return found


def _declared(name: str, settings: Mapping[str, Any]) -> Look:
    said = settings["style"]
    if not isinstance(said, dict) or not {"colour", "marker"} <= said.keys() <= {"group", "colour", "marker", "hollow"}:
        raise ParbenchError(f"style of method {name} is invalid: it needs colour and marker, and may have group and hollow")
    if "group" in said and said["group"] not in _GROUPS:
        raise ParbenchError(f"style.group={said['group']} of method {name} is unknown: use one of {', '.join(_GROUPS)}")
    group = _GROUPS[said["group"]] if "group" in said else _group(settings)
    colours = _GREYS if group == CONTROL else _HUES
    if said["colour"] not in colours:
        raise ParbenchError(f"style.colour={said['colour']} of method {name} is unknown: use one of {', '.join(colours)}")
    _check_marker(name, said["marker"])
    return Look(group, getattr(style, said["colour"].upper()), said["marker"], bool(said.get("hollow", False)))


def _check_marker(name: str, marker: Any) -> None:
    from matplotlib.markers import MarkerStyle

    try:
        MarkerStyle(marker)
    except ValueError as error:
        raise ParbenchError(f"style.marker={marker} of method {name} is not a matplotlib marker: use o or $A$") from error


def _group(settings: Mapping[str, Any]) -> str:
    """The group of a method from its class; before the LLM if the class cannot be imported."""
    from hydra.utils import get_class

    try:
        kind: Any = get_class(settings["_target_"])
    except Exception:
        # A figure of a finished run does not need the class.
        return BEFORE
    return CONTROL if kind.control else _SITES.get(kind.site, BEFORE)


def _unused(method: str, group: str, others: Mapping[str, Look]) -> Look:
    """A look that no other method has: the first letter of the name in a colour chosen by its hash, if it is free.

    Otherwise the next colour, then an outline, then another letter or digit of the name.
    """
    colours = (DARK, MIDDLE, LIGHT) if group == CONTROL else HUES
    first = hashlib.sha256(method.encode()).digest()[0] % len(colours)
    letters = dict.fromkeys(letter for letter in method.upper() if letter.isalnum())
    markers = [f"${letter}$" for letter in letters] or ["$?$"]
    taken = {(one.colour, one.marker, one.hollow) for one in others.values()}
    free = (
        Look(group, colour, marker, hollow)
        for marker, hollow, colour in product(markers, (False, True), colours[first:] + colours[:first])
        if (colour, marker, hollow) not in taken
    )
    return next(free, Look(group, colours[first], markers[0]))
