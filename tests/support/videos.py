"""Video files for tests, each frame of one grey that tells its number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

# Grey levels between the frames of a file.
STEP = 12
_MILLISECOND = Fraction(1, 1000)


def write_video(
    path: Path,
    frames: int = 20,
    *,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    milliseconds: Sequence[int] | None = None,
    **options: str,
) -> Path:
    """Write a video whose frame k is grey of level ``STEP * k``.

    Args:
        path: The file; its ending says the format.
        frames: Number of frames.
        fps: Frames a second.
        size: Width and height.
        codec: The encoder's name.
        milliseconds: The time of each frame; None for evenly spaced ones.
        options: Of the format.
    """
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 5
        if milliseconds is not None:
            stream.codec_context.time_base = _MILLISECOND
        # Otherwise a file without frames would not be written at all.
        container.start_encoding()
        for number in range(frames):
            grey = np.full((size[1], size[0], 3), STEP * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[number], _MILLISECOND
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def write_sound(path: Path) -> Path:
    """Write a second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    return path
