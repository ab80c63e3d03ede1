"""The figure of ``parbench show``: the visual tokens that a method keeps of an image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from parbench.engine.samples import Kept
from parbench.figures.views import View

_KEPT, NEEDED = "#E69F00", "#56B4E9"
# Inches: width of a panel, height around it, of that beneath for a caption of two lines, and a further line.
_PANEL, _ABOVE, _BENEATH, _LINE = 4.4, 1.0, 0.648, 0.19
# Size of coarser tokens as a share of that of others, the smallest width of their panel, and the heights that a figure may have.
_COARSE, _NARROWEST, _HEIGHTS = 0.4, 0.2, (2.6, 7.5)


def kept_share(kept: Kept) -> np.ndarray:
    """The share of each visual token in the kept tokens [N]: 1 if selected; its normalised weight if merged."""
    total: dict[int, float] = defaultdict(float)
    for token, weight in zip(kept.token, kept.weights, strict=True):
        total[token] += abs(weight)
    share = np.zeros(len(kept.source.content))
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        if total[token]:
            share[patch] += abs(weight) / total[token]
    return share.clip(max=1)


def kept_picture(path: Path, seen: View, share: np.ndarray, title: str, caption: str) -> None:
    """Write the figure of :func:`kept_figure` to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept_figure(seen, share, title, caption).savefig(path, metadata={"Software": None})


def kept_figure(seen: View, share: np.ndarray, title: str, caption: str) -> Figure:
    """Draw an image twice: unchanged on the left, and with all but the kept tokens darkened on the right.

    Coarser tokens, such as those of a thumbnail, have a small panel of their own.

    Args:
        seen: The image, the boxes of its tokens, and evidence boxes, which are drawn in every panel.
        share: The share of each visual token in the kept tokens [N], 0..1.
        title: Title of the right half, such as method and budget.
        caption: Text below, such as question and answers; may have several lines.
    """
    figure, axes = _panels(seen, caption.count("\n") + 1)
    pixels = np.asarray(seen.image.convert("RGB"), dtype=float) / 255
    axes[0].imshow(pixels)
    axes[0].set_title("image and needed boxes" if seen.boxes else "image", fontsize=10)
    for axis, fine in zip(axes[1:], (True, False), strict=False):
        axis.imshow(pixels * (0.18 + 0.82 * seen.strength(share, fine)[..., None]))
        _outline(axis, seen, np.where(seen.layout.fine == fine, share, 0))
    axes[1].set_title(title, fontsize=10, parse_math=False)
    if seen.has_coarse:
        kinds = dict.fromkeys(grid.kind for grid in seen.layout.grids if not grid.fine)
        axes[2].set_title(", ".join(kinds), fontsize=10)
    for axis in axes:
        for box in seen.boxes:
            axis.add_patch(_rectangle(seen, box, edgecolor=NEEDED, linewidth=2))
        axis.set_axis_off()
    whole, lines = figure.get_figheight(), caption.count("\n") + 1
    figure.suptitle(caption, fontsize=10, y=_BENEATH / 2 / whole, va="bottom", parse_math=False)
    figure.tight_layout(rect=(0, (_BENEATH + _further(seen, lines)) / whole, 1, 1))
    return figure


def _further(seen: View, lines: int) -> float:
    """Inches for the lines of a caption beyond two; an image as high as wide leaves that room anyway."""
    return _LINE * max(0, lines - 2) if seen.image.width > seen.image.height else 0


def _panels(seen: View, lines: int) -> tuple[Figure, Any]:
    """An empty figure, and its axes: the image, the finest tokens, and coarser ones if there are any."""
    width, height = seen.image.size
    high = min(max(_PANEL * height / width + _ABOVE, _HEIGHTS[0]) + _further(seen, lines), _HEIGHTS[1])
    if not seen.has_coarse:
        figure = Figure(figsize=(9, high), dpi=120)
        return figure, figure.subplots(1, 2)
    # An image that is higher than wide does not fill the width of its panel.
    filled = min(1.0, (high - _ABOVE) * width / height / _PANEL)
    coarse = max(_NARROWEST, _COARSE * filled)
    figure = Figure(figsize=(9 + _PANEL * coarse, high), dpi=120)
    return figure, figure.subplots(1, 3, width_ratios=[1, 1, coarse])


def _outline(axis: Any, seen: View, share: np.ndarray) -> None:
    for token in np.flatnonzero(share > 0):
        box = seen.layout.boxes[token]
        axis.add_patch(_rectangle(seen, box, edgecolor=_KEPT, linewidth=0.8, alpha=max(0.15, share[token])))


def _rectangle(seen: View, box: Any, **look: Any) -> Any:
    from matplotlib.patches import Rectangle

    across, down = (pixels / extent for pixels, extent in zip(seen.image.size, seen.layout.size, strict=True))
    x0, y0, x1, y1 = (edge * scale for edge, scale in zip(box, (across, down, across, down), strict=True))
    # The centre of a pixel has whole coordinates.
    return Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, **look)
