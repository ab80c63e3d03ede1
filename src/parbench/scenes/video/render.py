"""Draws a film: the shapes and the textured background of ``scenes``, frame by frame.

The frames of a clip are kept side by side in one picture, a film strip, so that a split is one file a clip as for still scenes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from parbench.clips import Clip
from parbench.scenes.render import RGB, blend, shape_mask, texture
from parbench.scenes.video.tracks import FRAMES, SECONDS, SIDE, Film


def render(film: Film) -> tuple[np.ndarray, np.ndarray]:
    """Draw the frames of a film.

    Returns:
        The frames, uint8 [8, 168, 168, 3], and their label maps, int16 [8, 168, 168]: 0 for background, i + 1 for the i-th thing.
        Background and colours stay the same through the film, grain differs from frame to frame.
    """
    rng = np.random.default_rng([film.seed, 8])
    images = np.repeat(texture(rng, SIDE, SIDE)[None], FRAMES, axis=0)
    owner = np.zeros((FRAMES, SIDE, SIDE), dtype=np.int16)
    for number, actor in enumerate(film.actors):
        mask = shape_mask(actor.shape, actor.diameter)
        jitter = rng.integers(-14, 15, size=3)
        for frame in filter(actor.shown, range(FRAMES)):
            x, y, right, bottom = actor.box(frame)
            colour = np.clip(np.array(RGB[actor.colour_in(frame)]) + jitter, 0, 255)
            blend(images[frame], mask, x, y, colour)
            owner[frame, y:bottom, x:right][mask > 127] = number + 1
    images += rng.integers(-7, 8, size=(FRAMES, SIDE, SIDE, 1), dtype=np.int16)
    return np.clip(images, 0, 255).astype(np.uint8), owner


def strip(film: Film) -> np.ndarray:
    """The frames of a film side by side, uint8 [168, 1344, 3]."""
    frames, _ = render(film)
    return np.ascontiguousarray(frames.transpose(1, 0, 2, 3)).reshape(SIDE, FRAMES * SIDE, 3)


def clip_of(picture: Image.Image) -> Clip:
    """The clip whose frames a film strip shows, each as wide as it is high."""
    side = picture.height
    frames = [picture.crop((left, 0, left + side, side)) for left in range(0, picture.width, side)]
    return Clip(tuple(frames), tuple(number * SECONDS for number in range(len(frames))))


def film_clip(film: Film) -> Clip:
    """The clip of a film."""
    return clip_of(Image.fromarray(strip(film)))
