"""HiRED against recorded cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parbench.models.parts import Parts
from parbench.parity.case import Case, Verdict
from parbench.parity.tiles import SIDE, TileParity, TileRun, of_cells, tiles
from parbench.reducers.hired import HiRed
from parbench.reducers.token_probes import READ_BLOCK


class _HiRed(TileParity[HiRed]):
    """Compares the kept cells of all tiles before padding is cut off, and the numbers of the crops."""

    def fields(self, case: Case) -> dict[str, Any]:
        """The budget in tokens, and the release's rounding."""
        parameters = case.parameters
        total = int(parameters["tiles"] * SIDE**2 * parameters["token_budget_rate"])
        return {"budget": total, "overview": parameters["alpha"], "areas": "strips", "remainder": "lost"}

    def parts(self, case: Case) -> Parts:
        """All cells, also those of the padding. Where crops lie does not matter, so they are put side by side."""
        count = case.parameters["tiles"]
        return tiles(count - 1, 1, torch.ones(count, SIDE**2, dtype=torch.bool))

    def heard(self, case: Case, parts: Parts) -> Mapping[str, dict[int, Tensor]]:
        """The attention of CLS in the first and in the read block."""
        blocks = {0: "tile_cls_attention_layer0", READ_BLOCK: "tile_cls_attention_layer22"}
        return {"saliency": {block: of_cells(case.tensor(name), parts) for block, name in blocks.items()}}

    def compare(self, found: TileRun[HiRed], verdict: Verdict) -> None:
        """Compare the kept cells and the numbers."""
        verdict.chosen(found.keep.nonzero().flatten(), found.case.tensor("mask").flatten().nonzero().flatten())
        verdict.chosen(found.kept(0), found.case.tensor("thumbnail_kept"))
        verdict.close(found.method.counts(found.probes)[0, 1:], found.case.tensor("crop_budgets"))


PARITY = _HiRed()
