"""FlowCut (arXiv 2505.19536; official code TungChintao/FlowCut, commit a2ecd24)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView, Cut
from parbench.models.geometry import Geometry
from parbench.reducers import TowerReducer

# For predictions: 1 - h^2 at the first cut, h as in the class. The mean over 30 images of the val split on llava-tiny.
_TYPICAL = 0.44


@dataclass
class FlowCut(TowerReducer):
    """Drops patches behind every second vision block, by a score that accumulates over the blocks.

    The score of a block is (a + s) |v|. Here a is the attention of CLS to a patch, and s a softmax over the products of the value
    of CLS with the patch's value, without scale; both are means over heads and sum to 1 over the patches. |v| is the L1 norm of
    the mean value over heads. The accumulated score is the mean of the score and what was accumulated before.

    With r more blocks before the last cut, a cut drops (n - budget) / sqrt(r) * (1 - h^2) of n patches, rounded, where h is the
    entropy of a relative to its maximum, ln n. Flat attention drops nothing. The last cut, with r = 0, keeps exactly the budget.
    It is behind the last block but one of those up to the output that LLaVA reads. In LLaVA-1.5, with 24 blocks, there are 11
    cuts, in llava-tiny, with 6, two.

    Deviations. In the release, the largest number among the images of a batch is dropped from all of them, so kept patches depend
    on the batch. Here each image has its own number, as the release has it for a single image. Its version for images with crops,
    which cuts in the tower and again in the LLM, is not here. Predicted costs assume the same h for all images, since the number
    of patches between the cuts depends on it.
    """

    title = "FlowCut"
    paper = "arXiv 2505.19536"
    whole_blocks = True

    def check(self, geometry: Geometry) -> None:
        """Also refuse towers without a block for the last cut."""
        super().check(geometry)
        if geometry.read < 2:
            raise ParbenchError(f"method {self.name} needs two vision blocks up to the one that is read: use another model")

    def merges(self, geometry: Geometry) -> list[int]:
        """Patches dropped behind each block, for a typical entropy."""
        left, budget, dropped = geometry.patches, self.count(geometry), []
        for block in range(geometry.read):
            after = _blocks_left(block, geometry)
            cut = 0 if after < 0 or after % 2 else left - budget
            dropped.append(min(cut, round(cut * _TYPICAL * after**-0.5)) if after > 0 else cut)
            left -= dropped[-1]
        return dropped

    def merge(self, view: BlockView, geometry: Geometry) -> Cut:
        """Accumulate the score, and behind every second block drop the patches with the lowest one."""
        after, patches, budget = _blocks_left(view.block, geometry), view.counts - 1, self.count(geometry)
        if after < 0 or int(patches.max()) <= budget:
            return Cut(view.valid)
        attention = _share(view.cls_attention)
        score = (attention + _share(_likeness(view))) * view.of_heads(view.values).mean(2).abs().sum(-1)
        if view.carried is not None:
            score = (view.carried + score) / 2
        if after % 2:
            return Cut(view.valid, score)
        left = torch.full_like(patches, budget)
        if after:
            flat = torch.special.entr(attention).sum(1) / patches.double().log()
            left = torch.maximum(left, patches - ((patches - budget) * after**-0.5 * (1 - flat**2)).round().long())
        # CLS comes first, and padding last.
        ranked = score.masked_fill(~view.valid, float("-inf"))
        ranked[:, 0] = float("inf")
        rank = ranked.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return Cut((rank <= torch.minimum(left, patches)[:, None]) & view.valid, score)


def _blocks_left(block: int, geometry: Geometry) -> int:
    """Blocks between a block and that of the last cut; -1 behind it."""
    return geometry.read - 2 - block


def _share(weights: Tensor) -> Tensor:
    """Weights [B, T] without that of CLS, with sum 1."""
    patches = weights.index_fill(1, torch.zeros(1, dtype=torch.long, device=weights.device), 0)
    return patches / patches.sum(1, keepdim=True)


def _likeness(view: BlockView) -> Tensor:
    """[B, T] softmax over the products of the value of CLS with all values, mean over heads; 0 for padding."""
    values = view.of_heads(view.values)
    products = torch.einsum("bhm,bthm->bht", values[:, 0], values)
    return products.masked_fill(~view.valid[:, None], float("-inf")).softmax(-1).mean(1)
