"""The limits of pixels of a video, as transformers' video processors of Qwen's models have them, which need torchvision.

That of Qwen3-VL limits all frames together. Those of Qwen2-VL and Qwen2.5-VL limit each frame, as for an image, and their
checkpoints have one file for both; ``total_pixels`` limits the frames together as well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
_SECTION = "video_processor"
# Transformers' own, where a file has none.
_USUAL = {"shortest_edge": 128 * 32 * 32, "longest_edge": 32 * 32 * 768}
# A frame that is longer is refused, as in transformers.
_MOST_LONG = 200
# A frame's share of the pixels of all is not below this many times the least pixels of a frame, as in transformers.
_FLOOR = 1.05


@dataclass(frozen=True)
class VideoLimits:
    """Limits of the pixels of all frames of a video together, as they are resized.

    Attributes:
        least: The fewest.
        most: The most.
    """

    least: int
    most: int

    @classmethod
    def read(cls, folder: Path) -> VideoLimits | None:
        """Those in a checkpoint's folder, from the file that transformers reads; None if there is no such file."""
        for path in (folder / name for name in _FILES):
            if not path.is_file():
                continue
            found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            # The first of these files is the video processor's only where it has a section for it.
            if path.name == _FILES[0] and not (found := found.get(_SECTION) or {}):
                continue
            return cls.of_size(found.get("size") or {})
        return None

    @classmethod
    def of_size(cls, size: Mapping[str, Any]) -> VideoLimits:
        """Those of a video processor's ``size``, with ``shortest_edge`` and ``longest_edge`` in pixels."""
        given = {**_USUAL, **size}
        return cls(int(given["shortest_edge"]), int(given["longest_edge"]))

    @property
    def deciding(self) -> dict[str, int]:
        """What decides the size of frames, for a run's identity."""
        return asdict(self)

    def frame(self, size: tuple[int, int], frames: int, factor: int, span: int) -> tuple[int, int]:
        """Width and height to which frames are resized.

        Args:
            size: Width and height of a frame.
            frames: Their number, at least ``span``.
            factor: Pixels of a visual token's side, which divide both.
            span: Frames of a time step.

        Raises:
            ValueError: A frame is more than 200 times as long as wide, or the reverse.
        """
        width, height = map(float, size)
        if min(size) < factor:
            scale = factor / min(size)
            width, height = float(int(width * scale)), float(int(height * scale))
        if max(width, height) / min(width, height) > _MOST_LONG:
            raise ValueError(f"a side is more than {_MOST_LONG} times the other")
        across, down = round(width / factor) * factor, round(height / factor) * factor
        pixels = round(frames / span) * span * across * down
        if pixels > self.most:
            by = math.sqrt(frames * width * height / self.most)
            across, down = (max(factor, math.floor(side / by / factor) * factor) for side in (width, height))
        elif pixels < self.least:
            by = math.sqrt(self.least / (frames * width * height))
            across, down = (math.ceil(side * by / factor) * factor for side in (width, height))
        return across, down


@dataclass(frozen=True)
class SharedLimits:
    """Limits of the pixels of each frame of a video, and of all time steps together, of which a step has an even share.

    As ``total_pixels`` of qwen-vl-utils 0.0.14 (``fetch_video``), and as ``cap_pixels_per_frame`` in transformers' video processor
    of Qwen2-VL, whose total is 90 % of a context of 128,000 tokens.

    Attributes:
        least: The fewest of a frame.
        most: The most of a frame.
        total: The most of one frame of each time step together. A frame's share is not below 1.05 times the fewest.
    """

    least: int
    most: int
    total: int

    @property
    def deciding(self) -> dict[str, int]:
        """What decides the size of frames, for a run's identity."""
        return asdict(self)

    def frame(self, size: tuple[int, int], frames: int, factor: int, span: int) -> tuple[int, int]:
        """Width and height to which frames are resized; see :meth:`VideoLimits.frame`."""
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

        share = max(self.total * span // frames, int(_FLOOR * self.least))
        height, width = smart_resize(size[1], size[0], factor=factor, min_pixels=self.least, max_pixels=min(self.most, share))
        return width, height
