"""FastVID against recorded cases, with recorded noise, attention and frame vectors."""

from __future__ import annotations

from typing import Any

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.fastvid import FastVid


class _FastVid(ClipParity[FastVid]):
    """Compares segments, salient tokens, the centres of each frame, and the tokens sent."""

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The budget in tokens, rounded down for each frame as in the release."""
        given = case.parameters
        return {
            "budget": frames * int(size * given["retention_ratio"]),
            "segments": given["DySeg_c"],
            "threshold": given["DySeg_tau"],
            "context": given["STPrune_d"],
            "stride": given["DTM_p"],
            "mix": given["DTM_beta"],
            "remainder": "lost",
            "noise": 0,
        }

    def compare(self, found: ClipRun[FastVid], verdict: Verdict) -> None:
        """Compare everything that is recorded but densities, on which centres depend."""
        case, frames = found.case, found.frames
        chosen = found.method.choose(frames)
        verdict.chosen(found.sent.ordered().place, case.tensor("kept_indices"))
        verdict.close(found.reduction.tokens[0], case.tensor("output_tokens"))
        verdict.chosen(torch.tensor([end - begin for begin, end in chosen.segments]), case.tensor("segment_sizes"))
        verdict.chosen(chosen.salient.flatten(), case.tensor("salient_indices").flatten())
        context = torch.tensor([len(chosen.centres.get(frame, ())) for frame in range(frames.count)])
        verdict.chosen(context, case.tensor("context_per_frame"))
        verdict.close(found.method.similarity(frames), case.tensor("frame_similarity"))


PARITY = _FastVid()
