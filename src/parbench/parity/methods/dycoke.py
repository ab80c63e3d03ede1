"""DyCoke's prefill stage against recorded cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.dycoke import DyCoke

# Similarities that differ by less may be in any order: they were recorded in float32.
_TIE = 1e-6


class _DyCoke(ClipParity[DyCoke]):
    """Compares kept tokens in the order of the release, and similarities.

    The last of an odd number of frames, which the release loses, is left out.
    """

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The share of a compared frame that is dropped."""
        return {"drop": case.parameters["merging_ratio"]}

    def compare(self, found: ClipRun[DyCoke], verdict: Verdict) -> None:
        """Compare frame by frame."""
        case, frames = found.case, found.frames
        similarity, kept = found.method.similarity(frames), found.method.choose(frames)
        recorded = case.tensor("kept_indices")
        counts = case.tensor("counts_per_frame")
        verdict.chosen(torch.tensor([len(one) for one in kept[: len(counts)]]), counts)
        for frame, theirs in enumerate(recorded.split(counts.tolist())):
            if frame in similarity and _tied(similarity[frame], kept[frame] % frames.size, theirs % frames.size):
                theirs = kept[frame]
            verdict.chosen(kept[frame], theirs)
        for name, first in (("similarity_pass1", 1), ("similarity_pass2", 2)):
            ours = [similarity[frame] for frame in sorted(similarity) if frame % 2 == first % 2]
            verdict.close(torch.stack(ours), case.tensor(name))


def _tied(similarity: Tensor, ours: Tensor, theirs: Tensor) -> bool:
    """Whether the same places are in an order that differs in ties only."""
    same = sorted(ours.tolist()) == sorted(theirs.tolist())
    return same and bool((similarity[theirs].diff() >= -_TIE).all())


PARITY = _DyCoke()
