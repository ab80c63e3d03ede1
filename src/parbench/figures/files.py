"""Figures as files that are reproducible byte by byte, and small enough to be committed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parbench.figures.style import COLOURS


def save(figure: Any, path: Path) -> Path:
    """Write a figure without a creation date or software version.

    Args:
        figure: A matplotlib figure.
        path: A ``.pdf`` or ``.png`` file. A PNG gets a palette, which reduces it to a third of its size.

    Returns:
        ``path``.
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
    """Reduce an image to 256 colours. The colours of methods and the greys, white included, are kept exactly."""
    packed = np.asarray(image).reshape(-1, 3).astype(np.int64) @ np.array([65536, 256, 1])
    colours, places, counts = np.unique(packed, return_inverse=True, return_counts=True)
    parts = np.stack([colours // 65536, colours // 256 % 256, colours % 256], axis=1).astype(np.uint8)
    # Weighted by the square root of their frequency, so that small coloured areas keep their colour.
    drawn = Image.fromarray(np.repeat(parts, np.sqrt(counts).astype(int), axis=0)[None])
    rest = drawn.quantize(256 - len(COLOURS), method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).getpalette()
    kept = b"".join(bytes.fromhex(colour[1:]) for colour in sorted(COLOURS))
    palette = np.frombuffer((kept + bytes(rest or []))[:768], dtype=np.uint8).reshape(-1, 3)
    # The nearest colour of the palette. The square of the pixel's colour is left out, since it is the same for all.
    nearest = ((palette.astype(float) ** 2).sum(axis=1) - 2.0 * parts @ palette.astype(float).T).argmin(axis=1)
    found = Image.fromarray(nearest.astype(np.uint8)[places].reshape(image.size[::-1]), "P")
    found.putpalette(palette.tobytes())
    return found
