"""GlobalCom2 against recorded cases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from parbench.models.parts import Parts
from parbench.ops.selection import top_k
from parbench.parity.case import Case, Verdict
from parbench.parity.tiles import SIDE, TileParity, TileRun, of_cells, tiles
from parbench.reducers.globalcom2 import GlobalCom2


class _GlobalCom2(TileParity[GlobalCom2]):
    """Compares the kept cells of thumbnail and crops in order of their scores, and the shares of the crops."""

    def fields(self, case: Case) -> dict[str, Any]:
        """The budget as a share, and the release's rounding."""
        parameters = case.parameters
        return {"budget": parameters["retention_ratio"], "temperature": parameters["temperature"], "remainder": "lost"}

    def parts(self, case: Case) -> Parts:
        """The cells outside the padding."""
        from transformers.models.llava_next.modeling_llava_next import unpad_image

        columns, rows = case.parameters["grid_width_height"]
        cells = torch.arange(columns * rows * SIDE**2).view(rows, columns, SIDE, SIDE).transpose(1, 2)
        canvas = cells.reshape(1, rows * SIDE, columns * SIDE)
        valid = unpad_image(canvas, case.parameters["image_size_height_width"])
        seen = torch.ones(1 + columns * rows, SIDE**2, dtype=torch.bool)
        seen[1:] = torch.isin(torch.arange(columns * rows * SIDE**2), valid).view(-1, SIDE**2)
        return tiles(columns, rows, seen)

    def heard(self, case: Case, parts: Parts) -> Mapping[str, dict[int, Tensor]]:
        """The products of queries and keys of the last block."""
        return {"raw_saliency": {-1: of_cells(case.tensor("tile_cls_logits_last"), parts)}}

    def compare(self, found: TileRun[GlobalCom2], verdict: Verdict) -> None:
        """Compare what is kept, by descending score, as indices among the cells of a tile, and the shares."""
        case, parts, scores = found.case, found.parts, found.method.scores(found.probes)[0]
        ranked = []
        for number in range(len(parts.parts)):
            tokens = parts.tokens(number)
            kept = found.keep[tokens]
            ranked.append(top_k(scores[tokens].masked_fill(~kept, float("-inf")), int(kept.sum())))
        verdict.chosen(ranked[0], case.tensor("thumbnail_order"))
        verdict.chosen(torch.cat(ranked[1:]), case.tensor("crop_indices"))
        verdict.close(torch.tensor([len(crop) for crop in ranked[1:]]), case.tensor("crop_counts"))
        verdict.close(found.method.shares(found.probes)[0, 1:], case.tensor("scales"))


PARITY = _GlobalCom2()
