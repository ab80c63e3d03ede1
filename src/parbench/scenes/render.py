"""Draws a scene: flat-coloured shapes and signs on a textured background.

Masks are rasterised once per shape and diameter and cached. Pixels are computed by integer arithmetic and correctly rounded
operations only, so the recorded fingerprints hold on other processors.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image

from parbench.scenes.world import (
    GLYPH_PITCH,
    GLYPH_SCALE,
    SIGN_MARGIN,
    Scene,
)

RGB = {
    "red": (205, 40, 45),
    "orange": (240, 140, 25),
    "yellow": (240, 220, 50),
    "green": (45, 160, 65),
    "blue": (40, 85, 205),
    "purple": (140, 60, 170),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}

_GLYPHS = {
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "C": "01110 10001 10000 10000 10000 10001 01110",
    "F": "11111 10000 10000 11110 10000 10000 10000",
    "H": "10001 10001 10001 11111 10001 10001 10001",
    "K": "10001 10010 10100 11000 10100 10010 10001",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "U": "10001 10001 10001 10001 10001 10001 01110",
    "X": "10001 10001 01010 00100 01010 10001 10001",
    "Z": "11111 00001 00010 00100 01000 10000 11111",
}
_OVERSAMPLING = 4


@lru_cache
def _glyph(character: str) -> np.ndarray:
    rows = [[int(bit) for bit in row] for row in _GLYPHS[character].split()]
    return np.kron(np.array(rows, dtype=np.uint8), np.ones((GLYPH_SCALE, GLYPH_SCALE), dtype=np.uint8)) * 255


def _in_polygon(x: np.ndarray, y: np.ndarray, corners: list[tuple[float, float]]) -> np.ndarray:
    inside = np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            crosses = ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
            inside ^= crosses
    return inside


def _star() -> list[tuple[float, float]]:
    corners = []
    for tip in range(10):
        radius = 1.0 if tip % 2 == 0 else 0.42
        angle = math.pi * (tip / 5 - 0.5)
        # Rounded, so that the corners are the same with another libm.
        corners.append((round(radius * math.cos(angle), 6), round(radius * math.sin(angle), 6)))
    return corners


@lru_cache
def shape_mask(shape: str, diameter: int) -> np.ndarray:
    """Coverage of a shape as uint8 [diameter, diameter], anti-aliased.

    Raises:
        KeyError: The shape is unknown.
    """
    n = diameter * _OVERSAMPLING
    axis = (2 * np.arange(n) + 1) / n - 1
    x, y = axis[None, :], axis[:, None]
    square_radius = x * x + y * y
    draw = {
        "circle": lambda: square_radius <= 1,
        "ring": lambda: (square_radius <= 1) & (square_radius >= 0.3),
        "square": lambda: (np.abs(x) <= 0.86) & (np.abs(y) <= 0.86),
        "cross": lambda: ((np.abs(x) <= 0.3) | (np.abs(y) <= 0.3)) & (np.abs(x) <= 1) & (np.abs(y) <= 1),
        "triangle": lambda: _in_polygon(x, y, [(0.0, -1.0), (1.0, 0.9), (-1.0, 0.9)]),
        "star": lambda: _in_polygon(x, y, _star()),
    }
    fine = draw[shape]().astype(np.int32)
    blocks = fine.reshape(diameter, _OVERSAMPLING, diameter, _OVERSAMPLING).sum(axis=(1, 3))
    found: np.ndarray = (blocks * 255 // _OVERSAMPLING**2).astype(np.uint8)
    return found


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Greyish texture, int16 [height, width, 3]: two octaves of smooth noise. Grain is added to the whole image later."""
    base = rng.integers(95, 160) + rng.integers(-14, 15, size=3)
    image = np.empty((height, width, 3), dtype=np.int16)
    image[:] = base
    for cell, amplitude in ((42, 34), (14, 22)):
        low = rng.integers(0, 256, size=(height // cell + 2, width // cell + 2), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(low).resize((width, height), Image.Resampling.BILINEAR), dtype=np.int16)
        image += ((smooth - 128) * amplitude // 128)[:, :, None]
    return image


def blend(image: np.ndarray, mask: np.ndarray, x: int, y: int, colour: np.ndarray) -> None:
    """Draw a colour [3] into an int16 image [H, W, 3], in place, through a mask uint8 [h, w] whose upper left corner is (x, y)."""
    height, width = mask.shape
    region = image[y : y + height, x : x + width]
    alpha = mask.astype(np.int32)[:, :, None]
    region[:] = (region * (255 - alpha) + colour * alpha) // 255


def render(scene: Scene, ground: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw the scene's window.

    Args:
        scene: What to draw.
        ground: Background, int16 [height, width, 3] (``parbench.scenes.backgrounds``); None for the texture of the splits.

    Returns:
        The image, uint8 [height, width, 3], and its label map, int16 [height, width]: 0 for background, i + 1 for the i-th object,
        -(i + 1) for the i-th sign. Training takes dense labels from it.
    """
    rng = np.random.default_rng([scene.seed, 1])
    left, top, right, bottom = scene.window.box
    size = bottom - top, right - left
    image = texture(rng, *size) if ground is None else ground.copy()
    owner = np.zeros(size, dtype=np.int16)
    for number, thing in enumerate(scene.things):
        x, y = thing.box[0] - left, thing.box[1] - top
        mask = shape_mask(thing.shape, thing.box[2] - thing.box[0])
        colour = np.clip(np.array(RGB[thing.colour]) + rng.integers(-14, 15, size=3), 0, 255)
        blend(image, mask, x, y, colour)
        owner[y : y + len(mask), x : x + len(mask)][mask > 127] = number + 1
    for number, sign in enumerate(scene.signs):
        x, y = sign.box[0] - left, sign.box[1] - top
        height, width = sign.box[3] - sign.box[1], sign.box[2] - sign.box[0]
        plate = np.full((height, width), 255, dtype=np.uint8)
        blend(image, plate, x, y, np.array(RGB[sign.colour]))
        ink = np.array(RGB["black" if sign.colour == "white" else "white"])
        for place, character in enumerate(sign.text):
            blend(image, _glyph(character), x + SIGN_MARGIN + place * GLYPH_PITCH, y + SIGN_MARGIN, ink)
        owner[y : y + height, x : x + width] = -(number + 1)
    image += rng.integers(-7, 8, size=(*size, 1), dtype=np.int16)
    return np.clip(image, 0, 255).astype(np.uint8), owner
