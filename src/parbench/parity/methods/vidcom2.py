"""VidCom2 against recorded cases: of the release, and of vLLM's port, whose total is fixed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.vidcom2 import VidCom2


class _VidCom2(ClipParity[VidCom2]):
    """Compares kept tokens, and where recorded the number of each frame and both scores. Newlines of LLaVA-Video are left out."""

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The budget as a share, as the official code has it."""
        if "q" in case.parameters:
            return {"budget": 1 - case.parameters["q"], "rounding": "down"}
        return {"budget": case.parameters["base_scale"], "rounding": "frames"}

    def tokens(self, case: Case) -> Tensor:
        """The recorded tokens; for LLaVA-Video a square of each frame."""
        found, side = super().tokens(case), case.parameters.get("grid")
        if side is None:
            return found
        whole = int(found.shape[1] ** 0.5)
        square: Tensor = found.unflatten(1, (whole, whole))[:, :side, :side]
        return square.flatten(1, 2)

    def compare(self, found: ClipRun[VidCom2], verdict: Verdict) -> None:
        """Compare what the case has."""
        case, kept = found.case, found.reduction.provenance.patch
        verdict.chosen(kept, case.tensor("kept_indices"))
        if case.has("counts_per_frame"):
            counts = torch.bincount(kept // found.frames.size, minlength=found.frames.count)
            verdict.chosen(counts, case.tensor("counts_per_frame"))
        if case.has("video_score"):
            video, frame = found.method.typical(found.frames)
            verdict.close(video, case.tensor("video_score"))
            verdict.close(frame, case.tensor("frame_score"))


PARITY = _VidCom2()
