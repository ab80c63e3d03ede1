"""Backgrounds other than the texture of ``scenes``: plain colours, and crops of photographs.

The photographs are the sample pictures inside scikit-image's package (each is free to use; its data/README.txt says whose it is).
They are for training and harder tests; the splits of ``scenes`` do not use them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from parbench.errors import ParbenchError

GROUNDS = ("texture", "plain", "photograph")
PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "clock_motion.png",
    "coins.png",
    "color.png",
    "grass.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
# Not used in training.
HELD_OUT_PHOTOGRAPHS = ("chelsea.png", "coffee.png", "gravel.png")


def _folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ParbenchError(
            "photographic backgrounds need scikit-image's sample pictures: pip install -c requirements.lock -e '.[train]'"
        )
    return Path(spec.origin).parent / "data"


@lru_cache(maxsize=32)
def photograph(name: str) -> np.ndarray:
    """A sample picture, uint8 [height, width, 3].

    Raises:
        ParbenchError: scikit-image is not installed, or its package does not contain the picture.
    """
    path = _folder() / name
    if not path.is_file():
        raise ParbenchError(f"scikit-image's package has no {name} in {path.parent}: install the version in requirements.lock")
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def plain(rng: np.random.Generator, side: int) -> np.ndarray:
    """A background in one nearly grey colour, from dark to light, int16 [side, side, 3]."""
    ground = np.empty((side, side, 3), dtype=np.int16)
    ground[:] = np.clip(rng.integers(30, 256) + rng.integers(-14, 15, size=3), 0, 255)
    return ground


def photographic(rng: np.random.Generator, side: int, names: tuple[str, ...] = PHOTOGRAPHS) -> np.ndarray:
    """A random crop of a random photograph, mirrored or not, with part of its contrast, int16 [side, side, 3]."""
    whole = photograph(names[rng.integers(len(names))])
    height, width = whole.shape[:2]
    crop = int(rng.integers(min(height, width) // 3, min(height, width) + 1))
    top, left = int(rng.integers(height - crop + 1)), int(rng.integers(width - crop + 1))
    part = Image.fromarray(whole[top : top + crop, left : left + crop]).resize((side, side), Image.Resampling.BILINEAR)
    ground = np.asarray(part, dtype=np.float32)[:, :: 1 if rng.random() < 0.5 else -1]
    return (128 + (ground - 128) * rng.uniform(0.4, 1.0)).astype(np.int16)


def draw_ground(kind: str, seed: int, side: int, names: tuple[str, ...] = PHOTOGRAPHS) -> np.ndarray | None:
    """The background of a scene, determined by its seed; None for the texture that ``render`` draws."""
    rng = np.random.default_rng([seed, 4])
    if kind == "plain":
        return plain(rng, side)
    return photographic(rng, side, names) if kind == "photograph" else None
