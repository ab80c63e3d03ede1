"""How much of the image region that a question is about is still represented after reduction."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from parbench.engine.samples import Kept
from parbench.models.evidence import Needed, needed
from parbench.models.source import Source


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


def repeated(kept: Kept, boxes: Sequence[Sequence[float]], source: Source, frames: Sequence[int] | None = None) -> float | None:
    """Share of the kept tokens that lie in an evidence box with another kept token before them; None without boxes or tokens.

    This is an upper bound on redundancy: a sign may need one token per character. A kept token is assigned to the first box that
    needs the visual token with the largest weight in it.

    Args:
        kept: The kept tokens.
        boxes: As for :func:`needed`.
        source: As for :func:`needed`.
        frames: As for :func:`needed`.
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
    for place, box in enumerate(boxes):
        mine = needed([box], source, None if frames is None else [frames[place]]).all & held
        held -= mine
        again += max(0, sum(per_patch[patch] for patch in mine) - 1)
    return again / kept.tokens


def measures(
    kept: Kept, boxes: Sequence[Sequence[float]], source: Source, frames: Sequence[int] | None = None
) -> dict[str, float | None]:
    """The measures of evidence of a sample, by the names of its fields.

    ``evidence_recall_any`` is left out of a video and of an image with a single part, where it would be ``evidence_recall``.

    Args:
        kept: The kept tokens.
        boxes: As for :func:`needed`.
        source: As for :func:`needed`.
        frames: As for :func:`needed`.
    """
    what = needed(boxes, source, frames)
    found = {
        "evidence_recall": recall(kept, what),
        "irrelevant": irrelevant(kept, what),
        "repeated": repeated(kept, boxes, source, frames),
    }
    return found if len(source.parts) == 1 or frames is not None else {**found, "evidence_recall_any": recall_any(kept, what)}
