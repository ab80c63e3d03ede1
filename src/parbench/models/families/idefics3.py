"""Idefics3 and SmolVLM: tiles of a fixed size, announced in the prompt, then the whole image as a small one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from parbench.models.families.base import Family, ImageTokens, Prepared, grouped
from parbench.models.families.canvas import tile_boxes
from parbench.models.source import Part, grids

# What the tower gets of an image, by tile.
_OF_TILES = ("pixel_values", "pixel_attention_mask")


class Idefics3(Family):
    """Idefics3 and SmolVLM: tiles, each announced by its row and column in the prompt, then the whole image."""

    model_types = ("idefics3", "smolvlm")
    title = "Idefics3 / SmolVLM"
    whole = -1

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

    def separate(self, inputs: Mapping[str, Tensor], prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`. The size of an image is that of its tiles together."""
        found = []
        for row, ids in enumerate(prompts):
            begin = 0
            for text, rows, columns in self._announced(ids):
                end, side = begin + rows * columns + 1, inputs["pixel_values"].shape[-1]
                mine = {name: inputs[name][row : row + 1, begin:end] for name in _OF_TILES if name in inputs}
                tokens = self.tokens((max(1, columns) * side, max(1, rows) * side), text, mine)
                found.append(Prepared(mine, replace(tokens, work=self.work(mine))))
                begin = end
        return found

    def _announced(self, ids: Tensor) -> Iterator[tuple[str, int, int]]:
        """For each image of a prompt, the text that stands for it, and the rows and columns of its tiles (0 without)."""
        text = "".join(self.processor.tokenizer.convert_ids_to_tokens(ids.tolist()))
        token = re.escape(self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id))
        begin, rows, columns = None, 0, 0
        for part in re.finditer(rf"<row_(\d+)_col_(\d+)>|<global-img>(?:{token})+", text):
            begin = part.start() if begin is None else begin
            if part.group(1):
                rows, columns = max(rows, int(part.group(1))), max(columns, int(part.group(2)))
            else:
                yield text[begin : part.end()], rows, columns
                begin, rows, columns = None, 0, 0

    def joined(self, name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images, as the tiles of one sample; several samples would need padding."""
        return torch.cat(list(values), dim=1)
