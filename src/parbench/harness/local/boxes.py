"""Evidence boxes in pixels of the image as given, and in pixels of its centre square, which is all that LLaVA-1.5 sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from parbench.errors import ParbenchError
from parbench.scenes.world import CANVAS

# Exif's orientation tag; from 5 on width and height are swapped.
_ORIENTATION, _SWAPPED = 274, (5, 6, 7, 8)
# The columns with boxes in pixels of the centre square, and of the image as given.
SQUARE, WHOLE = "boxes", "image_boxes"


def with_boxes(rows: Any, boxes: Sequence[Any], source: Path) -> Any:
    """Rows with a column ``WHOLE`` of boxes in pixels of the image, and a column ``SQUARE`` in pixels of its centre square.

    The centre square is ``CANVAS`` pixels wide; what lies outside of it is cut off.

    Args:
        rows: A ``datasets.Dataset`` with a column ``image``.
        boxes: For each row one box [x0, y0, x1, y1], a list of boxes, or None; in pixels of the stored image.
        source: The data file, for error messages.

    Raises:
        ParbenchError: Boxes have the wrong shape, or lie outside their image.
    """
    from datasets import Image as ImageFeature
    from datasets import List, Value

    stored: Any = None
    if any(boxes):
        several = isinstance(rows.features["image"], List)
        encoded = ImageFeature(decode=False)
        stored = rows.select_columns("image").cast_column("image", List(encoded) if several else encoded)
    seen: list[list[list[float]]] = []
    whole: list[list[list[float]]] = []
    for number, given in enumerate(boxes):
        if not given:
            seen.append([])
            whole.append([])
            continue
        checked = _checked(given, f"row {number} of {source}")
        images = stored[number]["image"]
        images = images if isinstance(images, list) else [images]
        if len(images) != 1:
            raise ParbenchError(f"row {number} of {source} has boxes and {len(images)} images: boxes need exactly one image")
        size = _size(images[0])
        seen.append([] if size is None else _cut(checked, size, f"row {number} of {source}"))
        whole.append([] if size is None else [[float(edge) for edge in box] for box in checked])
    feature = List(List(Value("float64")))
    return rows.add_column(SQUARE, seen, feature=feature).add_column(WHOLE, whole, feature=feature)


def _checked(given: Any, where: str) -> list[list[float]]:
    boxes = [given] if isinstance(given, list) and given and not isinstance(given[0], list) else given
    fit = isinstance(boxes, list) and all(
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(edge, int | float) and not isinstance(edge, bool) and math.isfinite(edge) for edge in box)
        and box[0] < box[2]
        and box[1] < box[3]
        for box in boxes
    )
    if not fit:
        raise ParbenchError(
            f"{where} has the boxes {str(given)[:80]}: write [[x0, y0, x1, y1], ...] in pixels of the image, with x0 < x1 and "
            f"y0 < y1"
        )
    return boxes


def _size(image: Any) -> tuple[int, int] | None:
    """Width and height in pixels after Exif rotation; None if the image cannot be read, which is reported later."""
    import io

    try:
        with Image.open(image["path"] if image["bytes"] is None else io.BytesIO(image["bytes"])) as opened:
            width, height = opened.size
            swapped = opened.getexif().get(_ORIENTATION) in _SWAPPED
    except Exception:
        return None
    return (height, width) if swapped else (width, height)


def _cut(boxes: Sequence[Sequence[float]], size: tuple[int, int], where: str) -> list[list[float]]:
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    found = []
    for x0, y0, x1, y1 in boxes:
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise ParbenchError(f"{where} has the box {[x0, y0, x1, y1]} outside of its image of {width} x {height} pixels")
        across = [min(max(edge - left, 0), side) * CANVAS / side for edge in (x0, x1)]
        down = [min(max(edge - top, 0), side) * CANVAS / side for edge in (y0, y1)]
        if across[0] < across[1] and down[0] < down[1]:
            found.append([across[0], down[0], across[1], down[1]])
    return found
