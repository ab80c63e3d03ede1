"""InternVL and Idefics3 / SmolVLM: tiles of a fixed size, then the whole image as a small one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from parbench.models.families.base import Family, ImageTokens, grouped
from parbench.models.source import Box, Part, grids


class InternVL(Family):
    """InternVL2.5 and InternVL3 in Hugging Face's form: tiles, a thumbnail if there are several, pixel shuffle."""

    model_types = ("internvl",)
    title = "InternVL"
    offers = frozenset({"attention", "cls", "parts", "causal"})

    @classmethod
    def typical(cls, config: Any) -> int:
        """Four tiles and a thumbnail."""
        return 5 * int(config.image_seq_length)

    @property
    def blocks(self) -> Sequence[Any]:
        """The attention modules of the tower's blocks."""
        return [layer.attention for layer in self.tower.encoder.layer]

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        config, count = self.model.config, len(tensors["pixel_values"])
        patches = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
        merge = round(1 / config.downsample_ratio)
        columns, rows = self._canvas(size) if count > 1 else (1, 1)
        boxes = tile_boxes(size, rows, columns)
        parts = [Part("tile" if count > 1 else "image", patches // merge, patches // merge, box) for box in boxes]
        if count == len(parts) + 1:
            parts.append(Part("thumbnail", patches // merge, patches // merge, (0, 0, *size)))
        # Row 0 of each tile is its CLS token.
        members = [grouped(patches, patches, merge, number * (patches**2 + 1) + 1) for number in range(count)]
        return ImageTokens(short, runs, grids(size, parts), torch.cat(members), count * (patches**2 + 1))

    def _canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows of tiles that the image processor chooses."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        of, (width, height) = self.processor.image_processor, size
        found: tuple[int, int] = get_optimal_tiled_canvas(
            (height, width), (of.size["height"], of.size["width"]), of.min_patches, of.max_patches
        )
        return found


class Idefics3(Family):
    """Idefics3 and SmolVLM: tiles, each announced by its row and column in the prompt, then the whole image."""

    model_types = ("idefics3", "smolvlm")
    title = "Idefics3 / SmolVLM"

    @classmethod
    def typical(cls, config: Any) -> int:
        """Sixteen tiles and the whole image: small images are scaled up."""
        side = config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor
        return int(17 * side**2)

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.model.model.text_model

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.model.model.vision_model

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        config = self.model.config
        places = [(int(row), int(column)) for row, column in re.findall(r"<row_(\d+)_col_(\d+)>", text)]
        rows, columns = max(places, default=(0, 0))
        patches = config.vision_config.image_size // config.vision_config.patch_size
        side = patches // config.scale_factor
        parts = [Part("tile", side, side, box) for box in (tile_boxes(size, rows, columns) if rows else ())]
        parts.append(Part("thumbnail" if rows else "image", side, side, (0, 0, *size)))
        members = [grouped(patches, patches, config.scale_factor, number * patches**2) for number in range(len(parts))]
        return ImageTokens(short, runs, grids(size, parts), torch.cat(members), len(parts) * patches**2)

    def joined(self, name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images, as the tiles of one sample; several samples would need padding."""
        return torch.cat(list(values), dim=1)


def tile_boxes(size: tuple[int, int], rows: int, columns: int) -> list[Box]:
    """The boxes of equal tiles of an image of ``size`` (width, height), in raster order."""
    width, height = size
    return [
        (column * width / columns, row * height / rows, (column + 1) * width / columns, (row + 1) * height / rows)
        for row in range(rows)
        for column in range(columns)
    ]
