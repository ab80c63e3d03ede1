"""The world of ``scenes``: the objects of an image, and their random generation.

A scene lives on a canvas of 24 x 24 patches of 14 pixels (336 x 336). It holds objects (shape x colour x
size) and one or two small signs with two or three characters. All coordinates are pixels of the canvas, so
they mean the same whether the whole canvas or a window of it is rendered (training uses windows first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PATCH = 14
GRID = 24
CANVAS = PATCH * GRID

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SIZES = ("small", "large")
SIGN_COLOURS = ("white", "black")
CHARACTERS = "ACFHKLTUXZ"

DIAMETERS = {"small": (28, 36), "large": (46, 58)}
# Additional sizes for training: from one and a half to six patches.
WIDE_DIAMETERS = {"small": (20, 40), "large": (41, 84)}
GLYPH_SCALE = 3
GLYPH_WIDTH, GLYPH_HEIGHT = 5 * GLYPH_SCALE, 7 * GLYPH_SCALE
GLYPH_PITCH = GLYPH_WIDTH + GLYPH_SCALE
SIGN_MARGIN = 5

# Some kinds are three times as frequent as others, so that "popular" negatives (POPE) exist.
POPULAR_FACTOR = 3.0
KINDS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
POPULAR = tuple(kind for index, kind in enumerate(KINDS) if (index * 7 + index // 6) % 3 == 0)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Thing:
    """One object: its kind and its bounding box (x0, y0, x1, y1; pixels of the canvas, upper end open)."""

    shape: str
    colour: str
    size: str
    box: Box

    @property
    def kind(self) -> tuple[str, str]:
        """The pair (colour, shape) by which questions name an object."""
        return self.colour, self.shape

    @property
    def name(self) -> str:
        """The phrase by which questions name an object, such as ``red star``."""
        return f"{self.colour} {self.shape}"

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the bounding box (x, y) in pixels of the canvas."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Sign:
    """A plate with two or three characters; ``colour`` is the plate's."""

    text: str
    colour: str
    box: Box


@dataclass(frozen=True)
class Window:
    """The part of the canvas that is rendered, in patches: first row, first column, number of rows and of columns.

    A window may reach beyond the canvas on both sides, so that their centres agree. Training uses this for images of other shapes.
    """

    row: int = 0
    column: int = 0
    height: int = GRID
    width: int = GRID

    @property
    def box(self) -> Box:
        """The window in pixels of the canvas (x0, y0, x1, y1)."""
        x, y = self.column * PATCH, self.row * PATCH
        return x, y, x + self.width * PATCH, y + self.height * PATCH


@dataclass(frozen=True)
class Scene:
    """The content of one image. ``seed`` also determines texture and colour jitter, so rendering is deterministic."""

    seed: int
    things: tuple[Thing, ...]
    signs: tuple[Sign, ...]
    window: Window = Window()

    @cached_property
    def kinds(self) -> frozenset[tuple[str, str]]:
        """The kinds of object present."""
        return frozenset(thing.kind for thing in self.things)


def sign_size(characters: int) -> tuple[int, int]:
    """Width and height in pixels of a sign with ``characters`` characters."""
    width = characters * GLYPH_PITCH - GLYPH_SCALE + 2 * SIGN_MARGIN
    return width, GLYPH_HEIGHT + 2 * SIGN_MARGIN


def _overlaps(box: Box, others: list[Box], gap: int = 5) -> bool:
    return any(
        box[0] < other[2] + gap and other[0] < box[2] + gap and box[1] < other[3] + gap and other[1] < box[3] + gap
        for other in others
    )


def _place(rng: np.random.Generator, width: int, height: int, window: Window, taken: list[Box]) -> Box | None:
    x0, y0, x1, y1 = window.box
    if width + 4 > x1 - x0 or height + 4 > y1 - y0:
        return None
    for _ in range(40):
        x = int(rng.integers(x0 + 2, x1 - width - 1))
        y = int(rng.integers(y0 + 2, y1 - height - 1))
        box = (x, y, x + width, y + height)
        if not _overlaps(box, taken):
            return box
    return None


# Four of a kind need five or more objects, so they are drawn more often to balance counts.
_REPEATS = (0.15, 0.2, 0.25, 0.4)
_WEIGHTS = np.array([POPULAR_FACTOR if kind in POPULAR else 1.0 for kind in KINDS])


def _draw_kinds(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Kinds for ``count`` objects; one shape or one colour occurs a chosen number of times (1 to 4).

    Without that, counts of 3 and 4 would be rare and counting questions could not be balanced.
    """
    by_shape = bool(rng.random() < 0.5)
    theme = SHAPES[rng.integers(len(SHAPES))] if by_shape else COLOURS[rng.integers(len(COLOURS))]
    repeats = min(count, int(rng.choice(4, p=_REPEATS)) + 1)
    inside = np.array([theme == (shape if by_shape else colour) for colour, shape in KINDS])
    kinds = []
    for number in range(count):
        weights = _WEIGHTS * (inside if number < repeats else ~inside)
        kinds.append(KINDS[rng.choice(len(KINDS), p=weights / weights.sum())])
    return kinds


def sample_scene(
    seed: int,
    window: Window | None = None,
    things: tuple[int, int] = (4, 8),
    signs: tuple[int, int] = (1, 2),
    diameters: Mapping[str, tuple[int, int]] = DIAMETERS,
) -> Scene:
    """Draw a scene at random from its seed.

    Args:
        seed: Determines everything about the scene.
        window: Part of the canvas that is rendered; nothing is placed outside it. Default: all of it.
        things: Minimum and maximum number of objects, inclusive.
        signs: Minimum and maximum number of signs, inclusive.
        diameters: Minimum and maximum diameter of each size in pixels.

    Returns:
        The scene. Objects without a free place are omitted, so small windows may contain fewer.
    """
    rng = np.random.default_rng(seed)
    window = window or Window()
    taken: list[Box] = []
    placed_signs = []
    colours = list(SIGN_COLOURS)
    rng.shuffle(colours)
    for number in range(int(rng.integers(signs[0], signs[1] + 1))):
        text = "".join(CHARACTERS[i] for i in rng.integers(len(CHARACTERS), size=int(rng.integers(2, 4))))
        if box := _place(rng, *sign_size(len(text)), window, taken):
            taken.append(box)
            placed_signs.append(Sign(text, colours[number], box))
    placed = []
    for colour, shape in _draw_kinds(rng, int(rng.integers(things[0], things[1] + 1))):
        size = SIZES[rng.integers(2)]
        low, high = diameters[size]
        diameter = int(rng.integers(low, high + 1))
        if box := _place(rng, diameter, diameter, window, taken):
            taken.append(box)
            placed.append(Thing(shape, colour, size, box))
    return Scene(seed, tuple(placed), tuple(placed_signs), window)
