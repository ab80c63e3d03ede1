"""Any resolution: a small whole image, then crops of a larger one, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from parbench.models.families.base import Family, ImageTokens, Prepared, pad_first
from parbench.models.families.canvas import best_grid, boxes, shown, spread
from parbench.models.source import Part, Source, cells, clipped, grids, with_newline

# Marks separators among coordinates, which are not negative.
_SEPARATOR = -1.0


class AnyResolution(Family):
    """A base image of the tower's size, then the crops of a larger one, stitched, without padding, a newline behind each row."""

    @classmethod
    def typical(cls, config: Any) -> int:
        """A base and four crops, with a newline behind each row."""
        side = config.vision_config.image_size // config.vision_config.patch_size
        return int(5 * side**2 + 2 * side)

    @property
    def read_block(self) -> int:
        """The last block whose output the LLM reads."""
        return int(self.model.config.vision_feature_layer) % (len(self.blocks) + 1) - 1

    @property
    def crop_side(self) -> int:
        """Patches along the side of a crop."""
        config = self.model.config.vision_config
        return int(config.image_size // config.patch_size)

    def tower_pass(self, image: Prepared) -> int:
        """See :meth:`Family.tower_pass`; Hugging Face runs videos of one number of frames together."""
        frames = image.tensors.get("pixel_values_videos")
        return 0 if frames is None else frames.shape[1]

    def joined(self, name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images; images have different numbers of crops."""
        return torch.cat(pad_first(values, 1) if name == "pixel_values" else list(values))

    def separate(self, inputs: Mapping[str, Tensor], _prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`."""
        samples = inputs.get("batch_num_images")
        alone = [True] * len(inputs["image_sizes"]) if samples is None else [n == 1 for n in samples.tolist() for _ in range(n)]
        found = []
        for number, (height, width) in enumerate(inputs["image_sizes"].tolist()):
            tokens = self.tokens_of((width, height), 1 if alone[number] else 2)
            tensors = {"pixel_values": inputs["pixel_values"][number : number + 1, : len(tokens.source.parts)]}
            tensors["image_sizes"] = inputs["image_sizes"][number : number + 1]
            if samples is not None:
                tensors["batch_num_images"] = torch.tensor([1 if alone[number] else 2])
            found.append(Prepared(tensors, tokens))
        return found

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        cls, area = int(self.has_cls), self.crop_side**2
        if sum(runs) == area + 1:
            source, members = self._alone(size)
        else:
            source, members = self._packed(size, tensors["image_sizes"][0].tolist(), sum(runs))
        rows = len(source.parts) * (area + cls)
        # Row 0 of each part is its CLS token.
        return ImageTokens(short, runs, source, (members + (members // area + 1) * cls)[:, None], rows)

    def _alone(self, size: tuple[int, int]) -> tuple[Source, Tensor]:
        """An image that is not cropped: its grid and one newline."""
        one = grids(size, [Part("base", self.crop_side, self.crop_side, (0, 0, *size))])
        return with_newline(one), torch.arange(len(one))

    def _packed(self, size: tuple[int, int], image_size: list[int], count: int) -> tuple[Source, Tensor]:
        """The tokens behind the base: coordinates go through the model's own packing in place of features."""
        side, config = self.crop_side, self.model.config
        height, width = best_grid(image_size, config.image_grid_pinpoints)
        down, across = height // config.vision_config.image_size, width // config.vision_config.image_size
        row, column = torch.meshgrid(torch.arange(down * side), torch.arange(across * side), indexing="ij")
        grid = torch.stack([row, column], dim=-1).double()
        crops = grid.view(down, side, across, side, 2).transpose(1, 2).reshape(-1, side * side, 2)
        packed = self._pack(torch.cat([crops[:1], crops])[None], image_size)[side * side :]
        separator = packed[:, 0] == _SEPARATOR
        places = packed[~separator]
        # OneVision shrinks a large grid: then a token lies between patches, and belongs to the nearest.
        nearest = places.round().long()
        crop = (nearest[:, 0] // side) * across + nearest[:, 1] // side
        cell = (nearest[:, 0] % side) * side + nearest[:, 1] % side
        inside = shown(size, (width, height))
        rows, columns = int(separator.sum()), len(places) // max(1, int(separator.sum()))
        pitch = config.vision_config.image_size / side
        whole = (rows, columns) == (len(places[:, 0].unique()), len(places[:, 1].unique())) and torch.equal(
            places, nearest.double()
        )
        box = boxes(places * pitch, pitch, inside, size) if whole else cells(rows, columns, (0, 0, *size))
        parts = [Part("base", side, side, (0, 0, *size))]
        length = side * pitch
        for number in range(down * across):
            left, top = number % across * length, number // across * length
            corner = torch.tensor([[top, left]], dtype=torch.float64)
            edges = clipped(boxes(corner, length, inside, size), size)[0].tolist()
            parts.append(Part("crop", side, side, (edges[0], edges[1], edges[2], edges[3])))
        base = grids(size, parts[:1])
        before, behind = (base.box, base.part, base.cell), (clipped(box, size), crop + 1, cell)
        joined = [torch.cat([one, spread(two, separator)]) for one, two in zip(before, behind, strict=True)]
        apart = torch.cat([base.separator, separator])
        if len(apart) != count:
            raise RuntimeError(f"an image of {size} packs into {len(apart)} tokens, not into the {count} of the processor")
        members = torch.cat([torch.arange(side * side), (crop + 1) * side * side + cell])
        return Source(size, joined[0], joined[1], joined[2], apart, tuple(parts)), members

    def _pack(self, features: Tensor, image_size: list[int]) -> Tensor:
        """The model's own packing of coordinates [1, crops, N, 2]."""
        newline = torch.full((2,), _SEPARATOR, dtype=torch.float64)
        sizes = torch.tensor([image_size])
        packed, _ = self.model.model.pack_image_features(features, sizes, image_newline=newline, **self.packing())
        found: Tensor = packed[0]
        return found

    def packing(self) -> dict[str, Any]:
        """Further arguments of ``pack_image_features``."""
        return {"vision_feature_select_strategy": self.model.config.vision_feature_select_strategy}
