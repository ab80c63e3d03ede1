"""What a painted spot changes: a tower in which a patch knows only itself, and the features of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image
from torch import Tensor

from parbench.models.adapter import ModelAdapter
from parbench.models.source import Source


def features_of(adapter: ModelAdapter, pixels: np.ndarray) -> tuple[Tensor, Source]:
    """The visual tokens [N, d] of an image [H, W, 3], and where they come from."""
    prepared = adapter.prepare(Image.fromarray(pixels))
    (encoded,) = adapter.family.encode([prepared], ())
    return (encoded.features if encoded.projected else adapter.project(encoded.features))[0], prepared.tokens.source


@contextmanager
def blind(adapter: ModelAdapter) -> Iterator[None]:
    """The tower's attention writes nothing, so that a patch knows only itself."""
    outputs = ("out_proj", "attn.proj", "projection_layer")
    inside = [value for name, value in adapter.family.tower.named_parameters() if any(part in name for part in outputs)]
    stored = [value.clone() for value in inside]
    try:
        for value in inside:
            value.zero_()
        yield
    finally:
        for value, old in zip(inside, stored, strict=True):
            value.copy_(old)
