"""The images of a data set's rows: identified by content, and decoded strictly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from parbench.errors import UnfitSample
from parbench.harness.silence import quiet_datasets

# Number of rows read at once.
_SLICE = 64
_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")


def image_columns(rows: Any) -> list[str]:
    """Names of the columns of a ``datasets.Dataset`` that hold an image, or a list of images, sorted."""
    return sorted(name for name, feature in rows.features.items() if _is_image(feature) or _is_images(feature))


def _is_image(feature: Any) -> bool:
    from datasets import Image as ImageFeature

    return isinstance(feature, ImageFeature)


def _is_images(feature: Any) -> bool:
    from datasets import List, Sequence

    return isinstance(feature, List | Sequence) and _is_image(feature.feature)


class ShownImages:
    """Identifies the images of rows by their stored bytes, never by a key of the data set alone.

    Args:
        rows: A ``datasets.Dataset``, with image features.
        key: Column whose values are used as names as long as each names one image; None if there is no such column.
        videos: What identifies the videos of a row; None without videos.
    """

    @quiet_datasets()
    def __init__(self, rows: Any, key: str | None = None, videos: Callable[[int], Sequence[str]] | None = None) -> None:
        from datasets import Image as ImageFeature
        from datasets import List

        columns = image_columns(rows)
        stored: Any = rows.select_columns(columns)
        for column in columns:
            feature = ImageFeature(decode=False)
            stored = stored.cast_column(column, List(feature) if _is_images(rows.features[column]) else feature)
        self._stored = stored if columns else None
        self._videos = videos
        self._keys = rows[key] if key in rows.column_names else None
        self._files: dict[str, str] = {}
        self._contents: dict[int, str | None] = {}
        # Name by row, name by content, content by name.
        self._names: list[str] = []
        self._by_content: dict[str, str] = {}
        self._taken: dict[str, str] = {}

    def content(self, number: int) -> str | None:
        """SHA-256 over the stored images of a row, in order, then its videos; None if it has none."""
        if self._stored is None and self._videos is None:
            return None
        if number not in self._contents and self._stored is None:
            self._keep(number, [])
        elif number not in self._contents and self._stored is not None:
            # Reading a slice takes hardly longer than reading a row.
            first = number - number % _SLICE
            columns = self._stored[first : first + _SLICE].values()
            for row, values in enumerate(zip(*columns, strict=True), first):
                found = [self._digest(image) for value in values for image in _each(value)]
                self._keep(row, found)
        return self._contents[number]

    def _keep(self, row: int, images: Sequence[str]) -> None:
        found = [*images, *(self._videos(row) if self._videos else ())]
        self._contents[row] = hashlib.sha256(" ".join(found).encode()).hexdigest() if found else None

    def _digest(self, image: Mapping[str, Any]) -> str:
        if image["bytes"] is not None:
            return hashlib.sha256(image["bytes"]).hexdigest()
        path = str(image["path"])
        if path not in self._files:
            try:
                with Path(path).open("rb") as file:
                    self._files[path] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                # It cannot be decoded either, which is reported then.
                self._files[path] = path
        return self._files[path]

    def name(self, number: int) -> str:
        """The name of a row's images: two rows have the same name exactly if their images have the same content.

        It is the key of the first row with these images, with a number appended if another image has that key. It depends
        only on this row and the rows before it.
        """
        while len(self._names) <= number:
            row = len(self._names)
            key = f"row {row}" if self._keys is None else str(self._keys[row])
            content = self.content(row) or f"none of {key}"
            if content not in self._by_content:
                self._by_content[content] = self._free(key)
                self._taken[self._by_content[content]] = content
            self._names.append(self._by_content[content])
        return self._names[number]

    def _free(self, key: str) -> str:
        name, count = key, 1
        while name in self._taken:
            count += 1
            name = f"{key} ({count})"
        return name


def _each(value: Any) -> Iterator[Mapping[str, Any]]:
    for image in value if isinstance(value, list) else [value]:
        if image is not None:
            yield image


class Watched(dict[str, Any]):
    """A row that records which of its columns were read."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        super().__init__(row)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.seen.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As ``dict``'s; records what is read."""
        self.seen.add(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.seen.add(str(name))
        return super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self.seen.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        """As ``dict``'s; records what is read."""
        self.seen.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        """As ``dict``'s; records what is read."""
        self.seen.update(super().keys())
        return super().values()

    def items(self) -> Any:
        """As ``dict``'s; records what is read."""
        self.seen.update(super().keys())
        return super().items()


def read_row(rows: Any, number: int, columns: list[str]) -> dict[str, Any]:
    """A row with its images decoded, as a task gets it.

    Args:
        rows: A ``datasets.Dataset``.
        number: Its index.
        columns: The columns that hold images.

    Raises:
        UnfitSample: An image is damaged, truncated, or not an image.
    """
    # lmms-eval enables this on import, so that a truncated image would pass for a whole one.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        row: dict[str, Any] = rows[number]
        for column in columns:
            value = row[column]
            row[column] = [_plain(image) for image in value] if isinstance(value, list) else _plain(value)
    # A decoder may raise anything on damaged bytes, from struct.error to IndexError.
    except Exception as error:
        raise UnfitSample(f"an image of row {number} cannot be read ({type(error).__name__}: {error})") from error
    return row


def _plain(image: Any) -> Any:
    """An image that ``convert("RGB")`` renders correctly: grey values of more than 8 bits are scaled, not clipped.

    Raises:
        ValueError: The range of its values is not known.
    """
    if not isinstance(image, Image.Image):
        return image
    if image.mode in _GREY_16:
        values = np.asarray(image).astype(np.float64) / 257
        return Image.fromarray(values.round().astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        low, high = float(values.min()), float(values.max())
        if low < 0 or high > 255:
            raise ValueError(
                f"its grey values go from {low:g} to {high:g} and nothing says what is white: store it with 8 or 16 bits"
            )
    return image
