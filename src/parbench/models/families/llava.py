"""LLaVA-1.5: one square image, 576 tokens, CLIP's tower with its CLS token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.families.base import Family, ImageTokens, Prepared
from parbench.models.offers import EVERYTHING
from parbench.models.source import Part, cells, clipped, grids
from parbench.models.vision import Encoded, encode, process


class Llava(Family):
    """LLaVA-1.5. Its tower is run and read by :mod:`parbench.models.vision`, and tokens may be dropped before the projector."""

    model_types = ("llava",)
    title = "LLaVA-1.5"
    offers = EVERYTHING - {"heads"}
    varies = False
    square = True

    def prepare(self, image: Image.Image, _together: int = 1) -> Prepared:
        """Preprocess an image.

        Raises:
            UnfitSample: It would need too much memory.
        """
        return Prepared({"pixel_values": process(self.processor.image_processor, [image])}, self.tokens_of(image.size))

    def tokens_of(self, size: tuple[int, int], _together: int = 1) -> ImageTokens:
        """The tokens of an image: the grid of its centre, after the shorter side was resized to that of the tower."""
        key = (*size, 1)
        return self._known.get(key) or self._known.put(key, self._tokens(size))

    def _tokens(self, size: tuple[int, int]) -> ImageTokens:
        config, of = self.model.config.vision_config, self.processor.image_processor
        side = config.image_size // config.patch_size
        token = self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id)
        width, height = size
        crop = getattr(of.crop_size, "height", None) or config.image_size
        scale = (getattr(of.size, "shortest_edge", None) or crop) / min(width, height)
        left, top = (width - crop / scale) / 2, (height - crop / scale) / 2
        box = (left, top, left + crop / scale, top + crop / scale)
        shown = clipped(torch.tensor([box], dtype=torch.float64), size)[0].tolist()
        source = grids(size, [Part("image", side, side, (shown[0], shown[1], shown[2], shown[3]))])
        source = type(source)(size, clipped(cells(side, side, box), size), source.part, source.cell, source.separator, source.parts)
        members = torch.arange(1, side**2 + 1)[:, None]
        return ImageTokens(token, (side**2,), source, members, side**2 + 1)

    def separate(self, inputs: Mapping[str, Tensor], _prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`.

        Raises:
            ParbenchError: The pixels have another size than the tower's.
        """
        side, pixels = self.model.config.vision_config.image_size, inputs["pixel_values"]
        if tuple(pixels.shape[1:]) != (3, side, side):
            raise ParbenchError(
                f"pixel_values has the shape {tuple(pixels.shape)}: the model reads [images, 3, {side}, {side}], as its own "
                "processor makes them"
            )
        return [Prepared({"pixel_values": one}, self.tokens_of((side, side))) for one in pixels.split(1)]

    def encode(self, images: Sequence[Prepared], blocks: Sequence[int]) -> list[Encoded]:
        """Run the vision tower; its tokens are not projected yet. See :meth:`Family.encode`."""
        pixels = torch.cat([image.tensors["pixel_values"] for image in images])
        return encode(self.model, pixels.to(self.model.device, self.model.dtype), blocks).split()
