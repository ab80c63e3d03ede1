"""Converts a processor's pixel values back to images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor


def pictures(processor: Any, pixels: Tensor) -> list[Image.Image]:
    """Preprocessed images as PIL images, to show them and to identify them by content.

    Args:
        processor: The image processor that made ``pixels``.
        pixels: [B, 3, H, W], rescaled and normalised by the processor.
    """
    values = pixels.detach().to("cpu", torch.float64)
    if getattr(processor, "do_normalize", False):
        values = values * _by_channel(processor.image_std) + _by_channel(processor.image_mean)
    if getattr(processor, "do_rescale", False):
        values = values / processor.rescale_factor
    bytes_ = values.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(one, "RGB") for one in bytes_]


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None]
