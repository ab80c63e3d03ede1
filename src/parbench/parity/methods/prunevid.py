"""PruneVid's first stage against recorded cases, with recorded noise."""

from __future__ import annotations

from typing import Any

import torch

from parbench.ops.segments import without_short_runs
from parbench.parity.case import Case, Verdict
from parbench.parity.clips import ClipParity, ClipRun
from parbench.reducers.prunevid import PruneVid


class _PruneVid(ClipParity[PruneVid]):
    """Compares windows, sizes of groups, the output that each token is averaged into, and the averages."""

    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The release's own numbers."""
        given = case.parameters
        return {
            "threshold": given["tau"],
            "segment_share": given["temporal_segment_ratio"],
            "cluster_share": given["cluster_ratio"],
            "noise": 0,
        }

    def compare(self, found: ClipRun[PruneVid], verdict: Verdict) -> None:
        """Compare everything that is recorded."""
        case, frames, method = found.case, found.frames, found.method
        origin = found.sent.origin
        verdict.chosen(origin.token[origin.patch.argsort()], case.tensor("group"))
        verdict.close(found.values, case.tensor("output_tokens"))
        labels = method.labels(frames)
        verdict.chosen(torch.tensor(labels), case.tensor("frame_labels"))
        verdict.chosen(torch.tensor(without_short_runs(labels)), case.tensor("frame_labels_refined"))
        windows = method.windows(frames)
        verdict.chosen(torch.tensor([end - begin for begin, end in windows]), case.tensor("windows"))
        sizes = torch.zeros(2, len(windows), dtype=torch.long)
        groups = list(method.groups(frames))
        for group, count in zip(groups, method.counts(frames, groups), strict=True):
            sizes[int(not group.static), group.window] += count
        verdict.chosen(sizes[0], case.tensor("static_sizes"))
        verdict.chosen(sizes[1], case.tensor("dynamic_sizes"))


PARITY = _PruneVid()
