"""Frames of a video as parts of one input: what families prepare of them without Hugging Face's video processors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from parbench.clips import Clip
from parbench.models.source import Part, Source, grids
from parbench.models.tower_work import TowerWork, tower_work


def frames_of(
    size: tuple[int, int], rows: int, columns: int, times: Sequence[float], span: int = 1, *, square: bool = False
) -> Source:
    """The source of frames with one grid of visual tokens each, or of time steps of ``span`` frames.

    With ``square`` the grid is that of the centre square of each frame alone.
    """
    width, height = size
    side = min(size)
    left, top = ((width - side) / 2, (height - side) / 2) if square else (0, 0)
    box = (left, top, width - left, height - top)
    shown = [tuple(range(step * span, (step + 1) * span)) for step in range(len(times))]
    return grids(size, [Part("frame", rows, columns, box, *one) for one in zip(times, shown, strict=True)])


def pixels_of_frames(processor: Any, clip: Clip) -> Tensor:
    """[1, F, 3, H, W] the frames, each by an image processor that gives one picture of a fixed size."""
    frames = [frame.convert("RGB") for frame in clip.frames]
    found: Tensor = processor(images=frames, return_tensors="pt").pixel_values
    return found[None]


def work_of_frames(config: Any, frames: int) -> TowerWork:
    """The work of a tower and its projector for frames of the tower's own size; see :func:`tower_work`."""
    side = config.vision_config.image_size
    return tower_work(config, {"pixel_values": torch.empty(frames, 3, side, side, device="meta")})


def paired_patches(patches: Tensor, channels: int, times: int) -> Tensor:
    """Patches of frames that each fill a whole time step, as those of time steps of several frames.

    Args:
        patches: [F, N, channels x times x side^2] patches of single frames, repeated in time.
        channels: Colour channels.
        times: Frames of a time step; F is a multiple of it.

    Returns:
        [F / times x N, channels x times x side^2].
    """
    single = patches.unflatten(-1, (channels, times, -1))[:, :, :, 0]
    steps = single.unflatten(0, (-1, times)).permute(0, 2, 3, 1, 4)
    found: Tensor = steps.flatten(2).flatten(0, 1)
    return found
