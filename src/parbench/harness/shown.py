"""The images that a data set's task gives for its rows, and which rows share them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from parbench.clips import Clip, times_of
from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.images import ShownImages, Watched, image_columns, read_row
from parbench.harness.local.videos import VIDEOS, file_digest
from parbench.harness.videos import Sampling, clip_sizes, read_clip

if TYPE_CHECKING:
    from parbench.harness.datasets import PreparedDataset

_VIDEO_FILES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v")


def noise_like(image: Image.Image, seed: str) -> Image.Image:
    """An image of uniform noise with the size of another image; the same seed gives the same noise."""
    import numpy as np

    drawn = np.random.default_rng(list(seed.encode())).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


def _noise_like(visual: Image.Image | Clip, seed: str) -> Image.Image | Clip:
    """The same of an image or of each frame of a video."""
    if isinstance(visual, Clip):
        return replace(visual, frames=tuple(noise_like(frame, f"{seed} {number}") for number, frame in enumerate(visual.frames)))
    return noise_like(visual, seed)


class Shown:
    """The images of a data set's rows as the task gives them.

    Args:
        dataset: Its rows and task are loaded when first needed.
    """

    def __init__(self, dataset: PreparedDataset) -> None:
        self.dataset = dataset

    def visuals(self, number: int) -> list[Image.Image | Clip]:
        """The images of a row, RGB, and its videos.

        Raises:
            UnfitSample: One is damaged or missing.
            ParbenchError: The task cannot show the row.
        """
        found = [self._opened(one) for one in self._by_task(read_row(self.dataset.rows, number, self.columns), number)]
        shown = [visual.convert("RGB") for visual in found if isinstance(visual, Image.Image | Clip)]
        if len(shown) != len(found):
            raise ParbenchError(
                f"row {number} of data set {self.dataset.name} holds something other than images and videos: parbench evaluates "
                "these and text"
            )
        if self.dataset.settings["images"] == "noise":
            return [_noise_like(visual, f"{self.name(number)} {place}") for place, visual in enumerate(shown)]
        return shown

    def sizes(self, number: int) -> list[tuple[tuple[int, int], tuple[float, ...] | None]]:
        """Width and height of each image of a row, and of a video's frames with the seconds of each; no video file is decoded.

        Raises:
            UnfitSample: One is damaged or missing.
            ParbenchError: The task cannot show the row.
        """
        found: list[tuple[tuple[int, int], tuple[float, ...] | None]] = []
        for one in self._by_task(read_row(self.dataset.rows, number, self.columns), number):
            # Only data whose videos are files say how their frames are sampled.
            if isinstance(one, str | os.PathLike) and self.dataset.shows_videos:
                found.append(clip_sizes(os.fspath(one), Sampling.of(self.dataset.settings)))
            elif isinstance(one, Image.Image | Clip):
                found.append((one.size, times_of(one)))
        return found

    def name(self, number: int) -> str:
        """The name of a row's images: two rows have the same name exactly if their images have the same content."""
        return self._images.name(number)

    def group(self, number: int) -> str:
        """A key that is equal for rows whose images are the same after the task has processed them."""
        content = self._images.content(number)
        # The files of videos are those that the task gives.
        if content is None or self._given_files or not self.draws:
            return self.name(number)
        row = {name: value for name, value in self.dataset.docs()[number].items() if name not in self._media}
        return hashlib.sha256(f"{content} {sorted(row.items())}".encode()).hexdigest()

    @property
    def columns(self) -> list[str]:
        """The columns that hold images."""
        return image_columns(self.dataset.rows)

    @cached_property
    def draws(self) -> bool:
        """Whether the task's images depend on more than a row's images, for example because it draws a box or crops."""
        try:
            row = Watched(read_row(self.dataset.rows, 0, self.columns))
            self._by_task(row, 0)
        except UnfitSample:
            return True
        return bool(row.seen - set(self._media))

    @cached_property
    def any_is_video(self) -> bool:
        """Whether the task shows a video for the first row, or a row names a video file."""
        rows = self.dataset.rows
        texts = [name for name, feature in rows.features.items() if getattr(feature, "dtype", None) == "string"]
        if any(str(value).lower().endswith(_VIDEO_FILES) for name in texts for value in rows.unique(name)):
            return True
        try:
            given = self._by_task(read_row(rows, 0, self.columns), 0)
        except UnfitSample:
            return False
        return any(isinstance(one, str | os.PathLike | Clip) for one in given)

    @property
    def _media(self) -> list[str]:
        """The columns that hold images or name video files."""
        return [*self.columns, VIDEOS]

    @property
    def _given_files(self) -> bool:
        """Whether the task says where the videos of a row are."""
        return self.dataset.shows_videos and not self.columns and VIDEOS not in self.dataset.rows.column_names

    @cached_property
    def _images(self) -> ShownImages:
        rows, key = self.dataset.rows, self.dataset.settings["image_key"]
        if VIDEOS in rows.column_names:
            paths = rows[VIDEOS]
            return ShownImages(rows, key, lambda number: [file_digest(path) for path in paths[number]])
        return ShownImages(rows, key, self.files if self._given_files else None)

    def files(self, number: int) -> list[str]:
        """The video files of a row that names them; where they should be if the task does not find them."""
        try:
            given = self._by_task(self.dataset.docs()[number], number)
        except UnfitSample as error:
            return [str(error)]
        return [str(one) for one in given if isinstance(one, str | os.PathLike)]

    @cached_property
    def found_files(self) -> str | None:
        """SHA-256 over names and sizes of all video files that the task names, missing ones without size; None if it names none."""
        if not self._given_files:
            return None
        every = dict.fromkeys(file for number in range(len(self.dataset.rows)) for file in self.files(number))
        sizes = (os.path.getsize(file) if os.path.exists(file) else None for file in every)
        said = [f"{os.path.basename(file)} {size}" for file, size in zip(every, sizes, strict=True)]
        return hashlib.sha256("\n".join(said).encode(errors="surrogateescape")).hexdigest()

    def _opened(self, visual: Any) -> Any:
        """A visual as the task gives it, with a video file read."""
        return read_clip(os.fspath(visual), Sampling.of(self.dataset.settings)) if isinstance(visual, str | os.PathLike) else visual

    def _by_task(self, row: Mapping[str, Any], number: int) -> list[Any]:
        """The images that the task gives for a row.

        Raises:
            UnfitSample: There is no image where the task expects one.
            ParbenchError: The task's function fails.
        """
        folder, task = self.dataset.video_folder, self.dataset.task
        try:
            with folder.found() if folder else nullcontext():
                return task.doc_to_visual(row) or []
        except (Exception, SystemExit) as error:
            said = f"({type(error).__name__}: {error})"
            if isinstance(error, SystemExit | FileNotFoundError):
                raise UnfitSample(f"row {number} has no video where its task looks for it {said}") from error
            if any(row[name] is None for name in self.columns):
                raise UnfitSample(f"row {number} has no image where its task expects one {said}") from error
            raise ParbenchError(
                f"doc_to_visual of task {self.dataset.task_name} fails for row {number} of data set {self.dataset.name} {said}: "
                f"mend the task"
            ) from error
