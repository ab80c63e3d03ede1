"""How much of the image region that a question is about is still represented after reduction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from parbench.engine.samples import Kept

# Share of a patch that a box must cover for the patch to count as needed.
COVERED = 0.25


def needed_patches(boxes: Sequence[Sequence[int]], size: tuple[int, int], grid: tuple[int, int]) -> set[int]:
    """Raster indices of the patches that the boxes cover by at least a quarter.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the image; x1 and y1 are exclusive.
        size: Width and height of the image in pixels.
        grid: Rows and columns of patches that the image is divided into.
    """
    rows, columns = grid
    width, height = size[0] / columns, size[1] / rows
    needed = set()
    for x0, y0, x1, y1 in boxes:
        for row in range(int(y0 // height), min(rows, int(y1 // height) + 1)):
            for column in range(int(x0 // width), min(columns, int(x1 // width) + 1)):
                across = min(x1, (column + 1) * width) - max(x0, column * width)
                down = min(y1, (row + 1) * height) - max(y0, row * height)
                if across > 0 and down > 0 and across * down >= COVERED * width * height:
                    needed.add(row * columns + column)
    return needed


def recall(kept: Kept, needed: set[int]) -> float | None:
    """Evidence recall, 0..1: the share of the needed patches that the kept tokens represent; None if no patch is needed.

    A merged patch counts by its normalised weight in its token, summed over tokens, at most 1. So an average over nine
    patches keeps a ninth of each, the same as keeping every ninth patch.
    """
    if not needed:
        return None
    total: dict[int, float] = defaultdict(float)
    for token, weight in zip(kept.token, kept.weights, strict=True):
        total[token] += abs(weight)
    share: dict[int, float] = defaultdict(float)
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        if patch in needed and total[token]:
            share[patch] += abs(weight) / total[token]
    return sum(min(1.0, value) for value in share.values()) / len(needed)


def irrelevant(kept: Kept, needed: set[int]) -> float | None:
    """Share of the kept tokens that come mostly from patches that are not needed; None if nothing is needed or kept."""
    if not needed or not kept.tokens:
        return None
    inside: dict[int, float] = defaultdict(float)
    total: dict[int, float] = defaultdict(float)
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        total[token] += abs(weight)
        inside[token] += abs(weight) if patch in needed else 0.0
    return sum(inside[token] < 0.5 * total[token] for token in total) / len(total)


def repeated(kept: Kept, boxes: Sequence[Sequence[int]], size: tuple[int, int]) -> float | None:
    """Share of the kept tokens that lie in an evidence box with another kept token before them; None without boxes or tokens.

    This is an upper bound on redundancy: a sign may need one token per character. A token is assigned to the first box that
    needs the patch with the largest weight in it.
    """
    if not boxes or not kept.tokens:
        return None
    heaviest: dict[int, tuple[float, int]] = {}
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        if token not in heaviest or abs(weight) > heaviest[token][0]:
            heaviest[token] = (abs(weight), patch)
    held = {patch for _, patch in heaviest.values()}
    per_patch = Counter(patch for _, patch in heaviest.values())
    again = 0
    for box in boxes:
        mine = needed_patches([box], size, kept.grid) & held
        held -= mine
        again += max(0, sum(per_patch[patch] for patch in mine) - 1)
    return again / kept.tokens
