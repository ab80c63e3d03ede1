"""How much of the image region that a question is about is still represented after reduction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from parbench.engine.samples import Kept
from parbench.models.source import Source

# Share of a token's box that an evidence box must cover for the token to count as needed.
COVERED = 0.25


@dataclass(frozen=True)
class Needed:
    """The visual tokens of an image that a question needs, as indices among its tokens without separators.

    Attributes:
        fine: Tokens of the finest parts of the image, such as crops or tiles, whose box an evidence box covers by a quarter.
        holders: For each coarser token, such as one of a thumbnail, that shows the centre of one or more of these: which.
    """

    fine: frozenset[int]
    holders: dict[int, frozenset[int]]

    @property
    def all(self) -> frozenset[int]:
        """Needed tokens of all parts."""
        return self.fine | self.holders.keys()


def needed(boxes: Sequence[Sequence[float]], source: Source) -> Needed:
    """The tokens that the boxes cover.

    Args:
        boxes: (x0, y0, x1, y1) in pixels of the image; x1 and y1 are exclusive.
        source: Where the tokens of the image come from, in the same pixels.
    """
    cells = _cells(source)
    left, top, right, bottom = cells.edges
    covered = np.zeros(len(left), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        across = np.minimum(right, x1) - np.maximum(left, x0)
        down = np.minimum(bottom, y1) - np.maximum(top, y0)
        covered |= (across > 0) & (down > 0) & (across * down >= cells.enough)
    fine = (covered & cells.is_fine).nonzero()[0]
    return Needed(frozenset(fine.tolist()), _holders(cells, fine) if len(cells.coarse) else {})


@dataclass(frozen=True, eq=False)
class _Cells:
    """The tokens of an image without separators.

    Attributes:
        edges: [4, N] left, top, right and bottom of their boxes.
        enough: [N] the area of each that has to be covered.
        is_fine: [N] whether they are of the finest parts.
        coarse: Indices of the others.
    """

    edges: NDArray[np.float64]
    enough: NDArray[np.float64]
    is_fine: NDArray[np.bool_]
    coarse: NDArray[np.int64]


# Images of one size share their source.
@lru_cache(maxsize=64)
def _cells(source: Source) -> _Cells:
    content = source.content
    edges = source.box[content].numpy().T.copy()
    is_fine = source.is_fine()[content].numpy()
    left, top, right, bottom = edges
    return _Cells(edges, COVERED * ((right - left) * (bottom - top)), is_fine, (~is_fine).nonzero()[0])


def _holders(cells: _Cells, fine: NDArray[np.int64]) -> dict[int, frozenset[int]]:
    """For each coarse token whose box holds the centre of fine tokens: which."""
    left, top, right, bottom = cells.edges[:, fine]
    x, y = (left + right) / 2, (top + bottom) / 2
    left, top, right, bottom = cells.edges[:, cells.coarse][:, :, None]
    inside = (left <= x) & (x < right) & (top <= y) & (y < bottom)
    pairs = zip(cells.coarse.tolist(), inside, strict=True)
    return {token: frozenset(fine[holds].tolist()) for token, holds in pairs if holds.any()}


def recall(kept: Kept, what: Needed) -> float | None:
    """Evidence recall, 0..1: the share of the needed fine tokens that the kept tokens represent; None if none is needed.

    A merged token counts by its normalised weight in its kept token, summed over kept tokens, at most 1. So an average over nine
    tokens keeps a ninth of each, the same as keeping every ninth token.
    """
    if not what.fine:
        return None
    share = _shares(kept, what.fine)
    return sum(min(1.0, value) for value in share.values()) / len(what.fine)


def recall_any(kept: Kept, what: Needed) -> float | None:
    """Evidence recall if a coarser token that shows the centre of a needed fine token counts for it too."""
    if not what.fine:
        return None
    share = _shares(kept, what.all)
    best = {token: min(1.0, share.get(token, 0.0)) for token in what.fine}
    for holder, held in what.holders.items():
        for token in held:
            best[token] = max(best[token], min(1.0, share.get(holder, 0.0)))
    return sum(best.values()) / len(what.fine)


def _shares(kept: Kept, tokens: frozenset[int]) -> dict[int, float]:
    """The share of each of some visual tokens in the kept tokens; may exceed 1."""
    total: dict[int, float] = defaultdict(float)
    for token, weight in zip(kept.token, kept.weights, strict=True):
        total[token] += abs(weight)
    share: dict[int, float] = defaultdict(float)
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        if patch in tokens and total[token]:
            share[patch] += abs(weight) / total[token]
    return share


def irrelevant(kept: Kept, what: Needed) -> float | None:
    """Share of the kept tokens that come mostly from tokens that are not needed; None if nothing is needed or kept."""
    if not what.fine or not kept.tokens:
        return None
    wanted = what.all
    inside: dict[int, float] = defaultdict(float)
    total: dict[int, float] = defaultdict(float)
    for token, patch, weight in zip(kept.token, kept.patches, kept.weights, strict=True):
        total[token] += abs(weight)
        inside[token] += abs(weight) if patch in wanted else 0.0
    return sum(inside[token] < 0.5 * total[token] for token in total) / len(total)


def repeated(kept: Kept, boxes: Sequence[Sequence[float]], source: Source) -> float | None:
    """Share of the kept tokens that lie in an evidence box with another kept token before them; None without boxes or tokens.

    This is an upper bound on redundancy: a sign may need one token per character. A kept token is assigned to the first box that
    needs the visual token with the largest weight in it.

    Args:
        kept: The kept tokens.
        boxes: As for :func:`needed`.
        source: As for :func:`needed`.
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
        mine = needed([box], source).all & held
        held -= mine
        again += max(0, sum(per_patch[patch] for patch in mine) - 1)
    return again / kept.tokens


def measures(kept: Kept, boxes: Sequence[Sequence[float]], source: Source) -> dict[str, float | None]:
    """The measures of evidence of a sample, by the names of its fields.

    ``evidence_recall_any`` is left out of an image with a single part, where it would be ``evidence_recall``.

    Args:
        kept: The kept tokens.
        boxes: As for :func:`needed`.
        source: As for :func:`needed`.
    """
    what = needed(boxes, source)
    found = {
        "evidence_recall": recall(kept, what),
        "irrelevant": irrelevant(kept, what),
        "repeated": repeated(kept, boxes, source),
    }
    return found if len(source.parts) == 1 else {**found, "evidence_recall_any": recall_any(kept, what)}
