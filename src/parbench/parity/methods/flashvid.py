"""FlashVID before the LLM against recorded cases, with recorded noise and attention."""

from __future__ import annotations

from typing import Any

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.flashvid import FlashVid


class _FlashVid(ClipParity[FlashVid]):
    """Compares segments, selected tokens, what is left after joining, and the tokens sent; those at one place in either order."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse other selections."""
        how = case.parameters.get("token_selection_method", "attn_div")
        return None if how == "attn_div" else f"token_selection_method={how} (ours is attn_div)"

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The release's arguments, with its deviations."""
        given = case.parameters
        return {
            "budget": given["retention_ratio"],
            "alpha": given["alpha"],
            "threshold": given["temporal_threshold"],
            "segment_threshold": given["segment_threshold"],
            "segments": given["min_segment_num"],
            "expansion": given["expansion"],
            "divisor": "children",
            "rounding": "up",
            "repeats": True,
            "noise": 0,
        }

    def compare(self, found: ClipRun[FlashVid], verdict: Verdict) -> None:
        """Compare everything that is recorded."""
        case, frames, method = found.case, found.frames, found.method
        kept, output = case.tensor("kept_indices"), case.tensor("output_tokens").clone()
        verdict.chosen(found.sent.ordered().place, kept)
        ours = found.reduction.tokens[0]
        if ours.shape == output.shape:
            for row in (kept[1:] == kept[:-1]).nonzero().flatten().tolist():
                pair = slice(row, row + 2)
                if (ours[pair] - output[pair]).abs().max() > (ours[pair] - output[pair].flip(0)).abs().max():
                    output[pair] = output[pair].flip(0)
        verdict.close(ours, output)
        segments, selected = method.cut(frames), method.selected(frames)
        verdict.chosen(torch.tensor([end - begin for begin, end in segments]), case.tensor("segment_lengths"))
        verdict.chosen(selected.flatten(), case.tensor("adts_indices").flatten())
        totals = method.totals(frames, segments, selected.shape[1])
        left = [method.trees(frames, one, selected, count).left for one, count in zip(segments, totals, strict=True)]
        verdict.chosen(
            torch.cat(left).flatten().nonzero().flatten(), case.tensor("left_after_merging").flatten().nonzero().flatten()
        )


PARITY = _FlashVid()
