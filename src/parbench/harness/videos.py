"""Frames of video files, sampled and decoded with PyAV.

Frames are sampled as lmms-eval's loaders do (v0.7.3, ``models/model_utils/load_video.py``): at most a number of them, evenly from
the first to the last, places rounded down; with a rate, no more than that many a second. Where frames are unevenly spaced in time,
the places are in time and not in the count of frames. Frames are in the orientation in which they are stored, as there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from parbench.clips import Clip
from parbench.errors import UnfitSample

# A stream that ends before this share of the length in its header is truncated.
_WHOLE = 0.95
_HOUR, _MINUTE = 3600, 60


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are shown.

    Attributes:
        frames: The most frames.
        fps: The most frames a second; None for no such limit.
    """

    frames: int
    fps: float | None = None

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Sampling:
        """That of a ``conf/dataset`` mapping."""
        return cls(settings["frames"], settings["fps"])

    def places(self, stamps: Sequence[int], base: Fraction) -> list[int]:
        """Indices of the frames that are shown, in order, each once.

        Args:
            stamps: Time stamps of all frames, ascending, at least one.
            base: Seconds of a unit of the stamps.
        """
        every, total = np.asarray(stamps, dtype=np.int64), len(stamps)
        span = int(every[-1] - every[0])
        if not span:
            return [0]
        gap = span / (total - 1)
        count = min(total, self.frames)
        if self.fps is not None:
            # Without what rounding of floating point takes away: 3 seconds at 2 a second are 6 frames.
            count = min(count, int(total * gap * float(base) * self.fps + 1e-6))
        count = max(1, count)
        if (np.abs(every - every[0] - gap * np.arange(total)) < gap / 2).all():
            return [int(place) for place in np.linspace(0, total - 1, count, dtype=int)]
        wanted = [int(every[0]) + number * span // max(1, count - 1) for number in range(count)]
        return sorted({int(place) for place in np.searchsorted(every, wanted, side="right") - 1})


def read_clip(path: str | Path, sampling: Sampling) -> Clip:
    """Frames of a video file.

    Args:
        path: The file.
        sampling: Which frames.

    Returns:
        The frames, RGB, with their seconds from the first frame of the video.

    Raises:
        UnfitSample: There is no such file, or it is damaged, truncated, or has no frame.
    """
    path = Path(path)
    with _said(path):
        packets = _packets(path)
        places, times = packets.sampled(sampling)
        if packets.stamped:
            stamps = sorted(packets.stamps)
            found = _decoded(path, [stamps[place] for place in places], sorted(packets.keys))
        else:
            found = _counted(path, places)
    return Clip(tuple(found), times)


def clip_sizes(path: str | Path, sampling: Sampling) -> tuple[tuple[int, int], tuple[float, ...]]:
    """Width and height of the frames that :func:`read_clip` gives, and the seconds of each, by the file alone: nothing is decoded.

    Raises:
        UnfitSample: There is no such file, or it is damaged, truncated, or has no frame.
    """
    path = Path(path)
    with _said(path):
        packets = _packets(path)
        return packets.size, packets.sampled(sampling)[1]


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """Turn errors of the decoder into one that names the file; refuse what is no file."""
    import av

    if path.is_dir():
        raise UnfitSample(f"{path} is a folder and not a video file")
    if not path.is_file():
        raise UnfitSample(f"the video {path} does not exist")
    try:
        yield
    except av.EOFError as error:
        raise UnfitSample(f"the video {path} has no frame: it ends before the first one") from error
    except (av.FFmpegError, OSError, MemoryError, ValueError) as error:
        what = getattr(error, "strerror", None) or type(error).__name__
        raise UnfitSample(f"the video {path} is damaged or truncated ({what})") from error


@dataclass(frozen=True)
class _Packets:
    """What a file says of its frames before they are decoded.

    Attributes:
        count: The number of frames.
        stamps: Their time stamps, of those that have one.
        keys: The stamps of frames at which decoding can begin.
        base: Seconds of a unit of the stamps.
        rate: Frames a second on average.
        size: Width and height of a frame.
    """

    count: int
    stamps: list[int]
    keys: list[int]
    base: Fraction
    rate: Fraction
    size: tuple[int, int]

    @property
    def stamped(self) -> bool:
        """Whether each frame has a time stamp of its own; otherwise frames are counted."""
        return len(set(self.stamps)) == self.count

    def sampled(self, sampling: Sampling) -> tuple[list[int], tuple[float, ...]]:
        """Indices of the frames that are shown, in order, and the seconds of each from the first frame of the video."""
        stamps, base = (sorted(self.stamps), self.base) if self.stamped else (list(range(self.count)), 1 / self.rate)
        places = sampling.places(stamps, base)
        return places, tuple(float((stamps[place] - stamps[0]) * base) for place in places)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A file and its first video stream that is no cover picture."""
    import av

    with av.open(str(path)) as container:
        moving = [stream for stream in container.streams.video if not _is_cover(stream)]
        if not moving:
            raise UnfitSample(f"{path} has no video stream")
        moving[0].thread_type = "AUTO"
        yield container, moving[0]


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _packets(path: Path) -> _Packets:
    """What a file says of its frames.

    Raises:
        UnfitSample: There are none, or the file ends in the middle.
    """
    with _opened(path) as (container, stream):
        size = (stream.codec_context.width, stream.codec_context.height)
        count, found = 0, _Packets(0, [], [], stream.time_base, stream.average_rate or Fraction(1), size)
        for packet in container.demux(stream):
            # An empty one ends the stream.
            if not packet.size:
                continue
            count += 1
            if packet.is_corrupt:
                raise UnfitSample(f"the video {path} is truncated: it ends in frame {count}")
            if packet.pts is not None:
                found.stamps.append(packet.pts)
                if packet.is_keyframe:
                    found.keys.append(packet.pts)
        if not count:
            raise UnfitSample(f"the video {path} has no frame")
        length = _length(container, stream)
        if length and found.stamps:
            end = (max(found.stamps) - min(found.stamps)) * found.base + 1 / found.rate
            if end < _WHOLE * length:
                raise UnfitSample(f"the video {path} is truncated: it ends after {float(end):.1f} of {float(length):.1f} seconds")
    return replace(found, count=count)


def _length(container: Any, stream: Any) -> Fraction | None:
    """Seconds of a video stream by its header; None if that does not say, or means the video before it was cut."""
    if "mp4" in container.format.name:
        # A broken packet tells of a truncated file, and edit lists leave frames out on purpose.
        return None
    if said := stream.metadata.get("DURATION"):
        hours, minutes, seconds = said.split(":")
        return _HOUR * int(hours) + _MINUTE * int(minutes) + Fraction(seconds[:12])
    return stream.duration * stream.time_base if stream.duration and container.format.name == "avi" else None


def _decoded(path: Path, wanted: Sequence[int], keys: Sequence[int]) -> list[Image.Image]:
    """The frames with some time stamps, ascending; what lies between far ones is skipped."""
    found: dict[int, Image.Image] = {}
    with _opened(path) as (container, stream):
        frames, position = container.decode(stream), min(keys, default=0)
        for target in wanted:
            key = max((stamp for stamp in keys if stamp <= target), default=position)
            if key > position:
                container.seek(key, stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                position = frame.pts if frame.pts is not None else position
                if position == target:
                    found[target] = frame.to_image()
                if position >= target:
                    break
    return [found[stamp] for stamp in wanted] if len(found) == len(wanted) else _sequential(path, wanted)


def _sequential(path: Path, wanted: Sequence[int]) -> list[Image.Image]:
    """The same by decoding every frame, for files in which seeking fails; for a frame that is not shown, the one before it.

    Raises:
        UnfitSample: Nothing is shown.
    """
    found: list[Image.Image] = []
    left, before = list(wanted), None
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            while left and before is not None and frame.pts > left[0]:
                found.append(before.to_image())
                left.pop(0)
            before = frame
    if before is None:
        raise UnfitSample(f"the video {path} has no frame that can be decoded")
    return [*found, *[before.to_image()] * len(left)]


def _counted(path: Path, places: Sequence[int]) -> list[Image.Image]:
    """The frames at some places, ascending, by decoding every frame up to the last of them."""
    found: list[Image.Image] = []
    with _opened(path) as (container, stream):
        for number, frame in enumerate(container.decode(stream)):
            if number == places[len(found)]:
                found.append(frame.to_image())
            if len(found) == len(places):
                return found
    raise UnfitSample(
        f"the video {path} is truncated: only {len(found)} of its frames {', '.join(map(str, places))} can be decoded"
    )
