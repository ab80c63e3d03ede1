"""EVS against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.evs import Evs


class _Evs(ClipParity[Evs]):
    """Compares kept tokens and differences. vLLM rounds its budget down in floating point, and keeps at least a frame."""

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The budget in tokens."""
        return {"budget": max(size, int(frames * size * (1 - case.parameters["q"])))}

    def compare(self, found: ClipRun[Evs], verdict: Verdict) -> None:
        """Compare the tokens as they are sent, and the differences."""
        case, frames = found.case, found.frames
        verdict.chosen(found.reduction.provenance.patch, case.tensor("kept_indices"))
        verdict.close(found.method.change(frames).flatten(), case.tensor("dissimilarity")[frames.size :])


PARITY = _Evs()
