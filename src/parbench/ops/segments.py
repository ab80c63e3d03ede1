"""Segments of a clip: runs of frames that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

# A segment: its first frame, and the one behind its last.
Segment = tuple[int, int]


def lowest(similarity: Tensor, count: int) -> Tensor:
    """[F-1] bool, the ``count`` smallest similarities [F-1] of a frame to the next, at most all; ties: the earlier one."""
    cut = torch.zeros(similarity.shape, dtype=torch.bool, device=similarity.device)
    cut[similarity.argsort(stable=True)[: max(0, count)]] = True
    return cut


def cuts(similarity: Tensor, threshold: float, segments: int) -> Tensor:
    """[F-1] bool, whether a cut follows a frame: similarity below the threshold, or among the ``segments`` - 1 smallest."""
    return (similarity < threshold) | lowest(similarity, segments - 1)


def at_least(similarity: Tensor, threshold: float, segments: int) -> Tensor:
    """[F-1] bool, whether a cut follows a frame: similarity below the threshold.

    If this gives fewer than ``segments`` segments, cuts are added at the smallest of the other similarities.
    """
    cut = similarity < threshold
    missing = segments - 1 - int(cut.sum())
    return cut | lowest(similarity.masked_fill(cut, float("inf")), missing)


def between(cut: Tensor) -> list[Segment]:
    """The segments between cuts [F-1]."""
    ends = [frame + 1 for frame, cuts_here in enumerate(cut.tolist()) if cuts_here]
    return list(zip([0, *ends], [*ends, len(cut) + 1], strict=True))


def most_static(static: Tensor, longest: int) -> tuple[list[Segment], int]:
    """The segments whose tokens can be shared over time best, by dynamic programming.

    A segment of L frames saves L - 1 tokens for each place that does not change within it; one frame saves nothing. Of
    segmentations that save equally much, the one with the shortest last segment is taken, and so on backwards.

    Args:
        static: [F-1, N] bool, whether a place is the same in a frame and the next.
        longest: Maximum frames of a segment.

    Returns:
        The segments, and how many tokens they save.
    """
    best, begin = [0], [0]
    for end in range(1, len(static) + 2):
        found, start = best[end - 1], end - 1
        same = torch.ones(static.shape[1], dtype=torch.bool, device=static.device)
        for first in range(end - 2, max(-1, end - 1 - longest), -1):
            same = same & static[first]
            saved = best[first] + int(same.sum()) * (end - 1 - first)
            if saved > found:
                found, start = saved, first
        best.append(found)
        begin.append(start)
    segments: list[Segment] = []
    end = len(begin) - 1
    while end:
        segments.append((begin[end], end))
        end = begin[end]
    return segments[::-1], best[-1]


def without_short_runs(labels: Sequence[int]) -> list[int]:
    """Labels of frames in which each label has only its longest runs; shorter runs take the label of a neighbour.

    The runs of a label that are shorter than its longest, and all runs of a label that has only single frames, are open. From left
    to right, each stretch of open frames takes the label of the longer run beside it, and the left one's if both are equally long.
    Without any run beside it, it takes 0.
    """
    runs = [(label, len(list(run))) for label, run in groupby(labels)]
    most = {label: max(length for one, length in runs if one == label) for label, _ in runs}
    marked = [label if length == most[label] > 1 else None for label, length in runs for _ in range(length)]
    stretches = [(label, len(list(run))) for label, run in groupby(marked)]
    filled: list[int] = []
    for number, (label, length) in enumerate(stretches):
        if label is None:
            behind = stretches[number + 1] if number + 1 < len(stretches) else (None, 0)
            before = 0
            while before < len(filled) and filled[-1 - before] == filled[-1]:
                before += 1
            after = behind[0] if behind[0] is not None else 0
            label = filled[-1] if filled and before >= behind[1] else after
        filled += [label] * length
    return filled


def runs(labels: Sequence[int]) -> list[Segment]:
    """The segments of equal labels."""
    found: list[Segment] = []
    for _, run in groupby(labels):
        begin = found[-1][1] if found else 0
        found.append((begin, begin + len(list(run))))
    return found
