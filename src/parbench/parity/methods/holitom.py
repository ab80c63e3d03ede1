"""HoliTom's first stage against recorded cases, with recorded noise and attention."""

from __future__ import annotations

from typing import Any

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.holitom import HoliTom


class _HoliTom(ClipParity[HoliTom]):
    """Compares windows, centres, and the tokens sent. In the version with newlines, without those, tokens are in order of place."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse clusters of places that change."""
        share = case.parameters.get("D", 0)
        return f"D={share} (ours has no clusters of places that change)" if share else None

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The budget as a share, rounded up as in the release."""
        given = case.parameters
        return {
            "budget": given["retain_ratio"],
            "threshold": given["tau"],
            "mix": given["beta"],
            "window": given["max_window_size"],
            "rounding": "up",
            "noise": 0,
        }

    def compare(self, found: ClipRun[HoliTom], verdict: Verdict) -> None:
        """Compare everything that is recorded."""
        case, frames, method = found.case, found.frames, found.method
        position, tokens = case.tensor("token_position"), case.tensor("output_tokens")
        shown = position >= 0
        if case.parameters.get("mm_newline_position") == "grid":
            verdict.chosen(found.sent.ordered().place, position[shown])
            verdict.close(found.reduction.tokens[0], tokens[shown])
        else:
            verdict.chosen(found.sent.place, position)
            verdict.close(found.values, tokens)
        windows, saved = method.windows(frames)
        verdict.chosen(torch.tensor([end for one in windows for end in (one.begin, one.end - 1)]), case.tensor("windows").flatten())
        verdict.chosen(torch.tensor([saved]), case.tensor("total_reduced").reshape(1))
        verdict.chosen(torch.tensor([len(one.static) for one in windows]), case.tensor("static_counts"))
        verdict.close(frames.same_place, case.tensor("feature_similarity"))


PARITY = _HoliTom()
