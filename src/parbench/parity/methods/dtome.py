"""DToMe, the merging of ToMe and DyMU, against recorded cases: our ToMe for a number of merges, our DyMU for a threshold."""

from __future__ import annotations

import torch

from parbench.ops.matching import batch_threshold, bipartite, running_thresholds
from parbench.parity.base import built
from parbench.parity.case import Case, Verdict
from parbench.parity.tower import TowerParity, one_block, one_head
from parbench.reducers import TowerReducer


class _DToMe(TowerParity):
    """Compares the merging of one block, and the calibration of thresholds."""

    def method(self, case: Case) -> str:
        """``tome`` or ``dymu``, which are recorded as one method."""
        return "tome" if case.parameters.get("r") is not None else "dymu"

    def unsupported(self, case: Case) -> str | None:
        """Also refuse a case with neither a threshold nor a number of merges."""
        parameters = case.parameters
        if "batch_thresholds" not in case.recorded and all(parameters.get(key) is None for key in ("threshold", "r")):
            return super().unsupported(case) or "it names neither a threshold nor a number of tokens to merge"
        return super().unsupported(case)

    def reducer(self, case: Case) -> TowerReducer:
        """Our class with the threshold or the number of merges of a case."""
        threshold = case.parameters.get("threshold")
        merging = {"r": int(case.parameters["r"])} if threshold is None else {"thresholds": float(threshold)}
        found: TowerReducer = built("tome" if threshold is None else "dymu", **merging)
        return found

    def run(self, case: Case) -> Verdict:
        """Compare a block or a calibration."""
        return _calibration(case) if "batch_thresholds" in case.recorded else super().run(case)


def _calibration(case: Case) -> Verdict:
    recorded, batch = case.recorded, int(case.parameters["batch"])
    metrics = recorded["metric_in"].split(batch)
    length = recorded["metric_in"].shape[1]
    rows, running, merged = [], [], []
    for number in recorded["r_values"].tolist():
        row, per_image = [], []
        for metric in metrics:
            counts = torch.full((len(metric),), length)
            threshold = batch_threshold(bipartite(metric, counts).score, len(metric) * number)
            method = built("dymu", thresholds=threshold)
            per_image.append(counts - method.merge(one_head(metric, counts), one_block(length)).counts)
            row.append(threshold)
        rows.append(row)
        running.append(running_thresholds(row))
        merged.append(torch.stack(per_image))
    verdict = Verdict()
    verdict.close(torch.tensor(rows), recorded["batch_thresholds"])
    verdict.close(torch.tensor(running), recorded["running_thresholds"])
    verdict.chosen(torch.stack(merged).flatten(), recorded["merged_per_image"].flatten())
    return verdict


PARITY = _DToMe()
