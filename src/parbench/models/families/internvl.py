"""InternVL: tiles of a fixed size, then the whole image as a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.families.base import Family, ImageTokens, Prepared, grouped
from parbench.models.families.canvas import tile_boxes
from parbench.models.source import Part, grids


class InternVL(Family):
    """InternVL2.5 and InternVL3 in Hugging Face's form: tiles, a thumbnail if there are several, pixel shuffle."""

    model_types = ("internvl",)
    title = "InternVL"
    offers = frozenset({"attention", "cls", "parts", "causal"})
    whole = -1

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

    def separate(self, inputs: Mapping[str, Tensor], prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`. The size of an image is that to which it was resized.

        Raises:
            ParbenchError: There are more tiles than the prompts have places for.
        """
        found, begin = [], 0
        token, each = self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id), int(self.model.config.image_seq_length)
        for length in (length for ids in prompts for length in _runs(ids == self.image_token_id)):
            tiles = inputs["pixel_values"][begin : begin + max(1, length // each)]
            if not len(tiles):
                break
            rows, columns = tiled(tiles)
            side = tiles.shape[-1]
            tokens = self.tokens((columns * side, rows * side), token * each * len(tiles), {"pixel_values": tiles})
            found.append(Prepared({"pixel_values": tiles}, replace(tokens, work=self.work({"pixel_values": tiles}))))
            begin += len(tiles)
        if begin < (count := len(inputs["pixel_values"])):
            raise ParbenchError(f"the prompts have places for {begin} tiles and pixel_values holds {count}: they must agree")
        return found

    def _canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows of tiles that the image processor chooses."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        of, (width, height) = self.processor.image_processor, size
        found: tuple[int, int] = get_optimal_tiled_canvas(
            (height, width), (of.size["height"], of.size["width"]), of.min_patches, of.max_patches
        )
        return found


# Side to which pictures are averaged for comparing them.
_COARSE = 16


def tiled(tiles: Tensor) -> tuple[int, int]:
    """Rows and columns of the tiles of an image, whose number alone is known.

    Args:
        tiles: [n, 3, S, S] a single picture, or tiles in raster order, then the whole image as a thumbnail. The tiles are put
            together in every way; the right one looks most like the thumbnail.
    """
    count = len(tiles) - 1
    if not count:
        return 1, 1
    small = F.adaptive_avg_pool2d(tiles[-1].float(), _COARSE)

    def error(rows: int) -> float:
        mosaic = tiles[:-1].float().unflatten(0, (rows, count // rows)).permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        return float((F.adaptive_avg_pool2d(mosaic, _COARSE) - small).square().mean())

    rows = min((rows for rows in range(1, count + 1) if count % rows == 0), key=error)
    return rows, count // rows


def _runs(there: Tensor) -> list[int]:
    """The lengths of the runs of True in [S] bool."""
    edges = F.pad(there.int(), (1, 1)).diff()
    found: list[int] = ((edges == -1).nonzero() - (edges == 1).nonzero()).flatten().tolist()
    return found
