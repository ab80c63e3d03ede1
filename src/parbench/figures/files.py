"""Pictures as files: the same bytes every time, small enough to be committed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parbench.figures.style import COLOURS


def save(figure: Any, path: Path) -> Path:
    """Write a picture without anything that differs from day to day.

    Args:
        figure: Matplotlib's.
        path: Its ending says how: pdf or png; a png gets a palette, which takes a third of the room.
    """
    if path.suffix == ".pdf":
        figure.savefig(path, metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
        return path
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    with Image.open(drawn) as image:
        with_palette(image.convert("RGB")).save(path, "PNG", optimize=True)
    return path


def with_palette(image: Image.Image) -> Image.Image:
    """The image in 256 colours, those of methods and the ground exactly as they are."""
    packed = np.asarray(image).reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1])
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    parts = np.stack([colours // 65536, colours // 256 % 256, colours % 256], axis=1).astype(np.uint8)
    # By the root of how often they are there, so that a small yellow ring stays yellow.
    drawn = Image.fromarray(np.repeat(parts, np.sqrt(counts).astype(int), axis=0)[None])
    rest = drawn.quantize(256 - len(COLOURS), method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette()
    kept = b"".join(bytes.fromhex(colour[1:]) for colour in sorted(COLOURS))
    palette = np.frombuffer((kept + bytes(rest or []))[:768], dtype=np.uint8).reshape(-1, 3)
    # The nearest of the palette: the square of the colour itself is the same for all.
    nearest = ((palette.astype(float) ** 2).sum(axis=1) - 2.0 * parts @ palette.astype(float).T).argmin(axis=1)
    found = Image.fromarray(nearest.astype(np.uint8)[places].reshape(image.size[::-1]), "P")
    found.putpalette(palette.tobytes())
    return found
