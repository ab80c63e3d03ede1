"""The figure of ``parbench show``: the patches that a method keeps of an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from parbench.engine.samples import Kept

_KEPT, _NEEDED = "#E69F00", "#56B4E9"


def kept_share(kept: Kept) -> np.ndarray:
    """The share of each patch in the kept tokens [rows, columns]: 1 if selected; its normalised weight if merged."""
    total: dict[int, float] = defaultdict(float)
    for token, weight in zip(kept.token, kept.weights, strict=True):
        total[token] += abs(weight)
    share = np.zeros(kept.grid[0] * kept.grid[1])
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        if total[token]:
            share[patch] += abs(weight) / total[token]
    return share.clip(max=1).reshape(kept.grid)


def kept_picture(path: Path, image: Image.Image, kept: Kept, boxes: Sequence[Sequence[float]], title: str, caption: str) -> None:
    """Write the figure of :func:`kept_figure` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept_figure(image, kept, boxes, title, caption).savefig(path, metadata={"Software": None})


def kept_figure(image: Image.Image, kept: Kept, boxes: Sequence[Sequence[float]], title: str, caption: str) -> Figure:
    """Draw an image twice: unchanged on the left, and with all but the kept patches darkened on the right.

    Args:
        image: The image.
        kept: Its kept tokens.
        boxes: Evidence boxes in pixels of the image, drawn in both halves.
        title: Title of the right half, such as method and budget.
        caption: Text below, such as question and answers; may have several lines.
    """
    from matplotlib.patches import Rectangle

    rows, columns = kept.grid
    share = kept_share(kept)
    pixels = np.asarray(image.convert("RGB"), dtype=float) / 255
    height, width = pixels.shape[:2]
    down, across = np.arange(height) * rows // height, np.arange(width) * columns // width
    strength = share[down][:, across][..., None]
    figure = Figure(figsize=(9, 5.4), dpi=120)
    axes = figure.subplots(1, 2)
    axes[0].imshow(pixels)
    axes[1].imshow(pixels * (0.18 + 0.82 * strength))
    axes[0].set_title("image and needed boxes" if boxes else "image", fontsize=10)
    axes[1].set_title(title, fontsize=10, parse_math=False)
    for row, column in zip(*np.nonzero(share > 0), strict=True):
        corner = (column * width / columns - 0.5, row * height / rows - 0.5)
        axes[1].add_patch(
            Rectangle(
                corner,
                width / columns,
                height / rows,
                fill=False,
                edgecolor=_KEPT,
                linewidth=0.8,
                alpha=max(0.15, share[row, column]),
            )
        )
    for axis in axes:
        for x0, y0, x1, y1 in boxes:
            axis.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=_NEEDED, linewidth=2))
        axis.set_axis_off()
    figure.suptitle(caption, fontsize=10, y=0.06, va="bottom", parse_math=False)
    figure.tight_layout(rect=(0, 0.12, 1, 1))
    return figure
