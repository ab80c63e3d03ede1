"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images at their own resolution, multimodal rotary positions, merged patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from parbench.models.families.base import Family, ImageTokens
from parbench.models.source import Part, grids


class Qwen2VL(Family):
    """Each token is a square of merged patches. Positions have three axes: time, row, column."""

    model_types = ("qwen2_vl",)
    title = "Qwen2-VL"
    renumbers = False

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.model.model.visual

    @property
    def blocks(self) -> Sequence[Any]:
        """The attention modules of the tower's blocks."""
        return [block.attn for block in self.tower.blocks]

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        grid = tensors["image_grid_thw"]
        _, rows, columns = grid[0].tolist()
        merge = self.model.config.vision_config.spatial_merge_size
        source = grids(size, [Part("image", rows // merge, columns // merge, (0, 0, *size))])
        return ImageTokens(short, runs, source, self.members(grid), rows * columns, grid)

    def members(self, grid: Tensor) -> Tensor:
        """[N, g] rows of the tower that make up each token: the processor puts the patches of a token side by side."""
        group = self.model.config.vision_config.spatial_merge_size**2
        return torch.arange(int(grid[0].prod())).view(-1, group)

    def positions(self, ids: Tensor, images: Sequence[ImageTokens]) -> Tensor:
        """Position ids [L, 3] of an expanded prompt, by the model's own ``get_rope_index``."""
        if not images:
            return torch.arange(len(ids))[:, None].expand(-1, 3)
        grids = torch.cat([image.grid for image in images if image.grid is not None])
        kinds = (ids == self.image_token_id).int()[None]
        found, _ = self.model.model.get_rope_index(
            ids[None], kinds, image_grid_thw=grids, attention_mask=torch.ones_like(ids)[None]
        )
        positions: Tensor = found[:, 0].T
        return positions.contiguous()


class Qwen25VL(Qwen2VL):
    """Qwen2.5-VL: most blocks attend within windows, in whose order the tower's rows are."""

    model_types = ("qwen2_5_vl",)
    title = "Qwen2.5-VL"

    @property
    def read_block(self) -> int:
        """The last block that attends to the whole image."""
        return int(max(self.tower.fullatt_block_indexes))

    def members(self, grid: Tensor) -> Tensor:
        """See :meth:`Qwen2VL.members`; the rows are in the order of windows."""
        from transformers.vision_utils import get_vision_window_index

        config = self.model.config.vision_config
        order, _ = get_vision_window_index(grid, config.spatial_merge_size, config.window_size, config.patch_size)
        return super().members(grid)[order.argsort()]


class Qwen3VL(Qwen2VL):
    """Qwen3-VL: features of inner vision blocks are added to the visual tokens behind the first layers (DeepStack)."""

    model_types = ("qwen3_vl",)
    title = "Qwen3-VL"
