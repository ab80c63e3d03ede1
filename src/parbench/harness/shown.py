"""The images that a data set's task gives for its rows, and which rows share them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from parbench.clips import Clip
from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.images import ShownImages, Watched, image_columns, read_row

if TYPE_CHECKING:
    from parbench.harness.datasets import PreparedDataset


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
        found = self._by_task(read_row(self.dataset.rows, number, self.columns), number)
        shown = [visual.convert("RGB") for visual in found if isinstance(visual, Image.Image | Clip)]
        if len(shown) != len(found):
            raise ParbenchError(
                f"row {number} of data set {self.dataset.name} holds something other than images and videos: parbench evaluates "
                "these and text"
            )
        if self.dataset.settings["images"] == "noise":
            return [_noise_like(visual, f"{self.name(number)} {place}") for place, visual in enumerate(shown)]
        return shown

    def name(self, number: int) -> str:
        """The name of a row's images: two rows have the same name exactly if their images have the same content."""
        return self._images.name(number)

    def group(self, number: int) -> str:
        """A key that is equal for rows whose images are the same after the task has processed them."""
        content = self._images.content(number)
        if content is None or not self.draws:
            return self.name(number)
        row = {name: value for name, value in self.dataset.docs()[number].items() if name not in self.columns}
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
        return bool(row.seen - set(self.columns))

    @cached_property
    def _images(self) -> ShownImages:
        return ShownImages(self.dataset.rows, self.dataset.settings["image_key"])

    def _by_task(self, row: Mapping[str, Any], number: int) -> list[Any]:
        """The images that the task gives for a row.

        Raises:
            UnfitSample: There is no image where the task expects one.
            ParbenchError: The task's function fails.
        """
        try:
            return self.dataset.task.doc_to_visual(row) or []
        except Exception as error:
            said = f"({type(error).__name__}: {error})"
            if any(row[name] is None for name in self.columns):
                raise UnfitSample(f"row {number} has no image where its task expects one {said}") from error
            raise ParbenchError(
                f"doc_to_visual of task {self.dataset.task_name} fails for row {number} of data set {self.dataset.name} {said}: "
                f"mend the task"
            ) from error
