"""Qwen2.5-VL: as Qwen2-VL, with attention within windows in most vision blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from parbench.models.families.qwen2_vl import Qwen2VL


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: most blocks attend within windows, in whose order the tower's rows are."""

    model_types = ("qwen2_5_vl",)
    title = "Qwen2.5-VL"

    def clip_steps(self, seconds: Sequence[float]) -> dict[str, Tensor]:
        """The seconds between steps, which become distances along the first axis."""
        return {"second_per_grid_ts": torch.tensor(seconds)}

    @property
    def read_block(self) -> int:
        """The last block that attends to the whole image."""
        return int(max(self.tower.fullatt_block_indexes))

    def heard_block(self, block: int) -> int:
        """The nearest block that attends to the whole image; ties: the lower one."""
        number = block % len(self.blocks)
        return int(min(sorted(self.tower.fullatt_block_indexes), key=lambda whole: abs(whole - number)))

    def members(self, grid: Tensor) -> Tensor:
        """See :meth:`Qwen2VL.members`; the rows are in the order of windows."""
        from transformers.vision_utils import get_vision_window_index

        config = self.model.config.vision_config
        order, _ = get_vision_window_index(grid, config.spatial_merge_size, config.window_size, config.patch_size)
        return super().members(grid)[order.argsort()]
