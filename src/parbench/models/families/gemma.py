"""Gemma 3: 256 pooled tokens an image, which see each other both ways; sliding and full layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.families.base import Family, ImageTokens, Prepared, grouped
from parbench.models.source import Part, grids


class Gemma3(Family):
    """Gemma 3 with images. Its masks depend on the layer, and are made anew after each stage that drops tokens."""

    model_types = ("gemma3",)
    title = "Gemma 3"
    offers = frozenset({"attention", "received", "grid", "parts"})
    varies = False
    shares_prefixes = False

    @classmethod
    def side(cls, config: Any) -> int:
        """Pooled tokens along a side of every image."""
        return int(config.mm_tokens_per_image**0.5 + 0.5)

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        config = self.model.config
        patches = config.vision_config.image_size // config.vision_config.patch_size
        side = self.side(config)
        source = grids(size, [Part("image", side, side, (0, 0, *size))])
        return ImageTokens(short, runs, source, grouped(patches, patches, patches // side), patches**2)

    def separate(self, inputs: Mapping[str, Tensor], _prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`. Images are squeezed to a square, whose side counts as their size."""
        side = self.model.config.vision_config.image_size
        return [Prepared({"pixel_values": one}, self.tokens_of((side, side))) for one in inputs["pixel_values"].split(1)]

    def rotary(self, hidden: Tensor, positions: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines, which differ between sliding and full layers."""
        found: tuple[Tensor, Tensor] = self.language.rotary_emb(hidden, positions[..., 0], self.layer_kind(layer))
        return found

    def causal_mask(self, layer: int, hidden: Tensor, mask: Tensor, cache: Any, image: Tensor | None) -> Tensor | None:
        """The mask of a layer; at prefill, the tokens of an image see each other both ways."""
        from transformers import DynamicCache

        if image is not None:
            # The cache says how many keys a layer holds: at prefill none yet, while a stage meets full ones.
            fresh = DynamicCache(config=self.language.config)
            positions = (mask.cumsum(1) - 1).clamp(min=0)[..., None]
            found: Tensor | None = self.whole_mask(hidden, mask, positions, fresh, image)[self.layer_kind(layer)]
            return found
        return super().causal_mask(layer, hidden, mask, cache, image)

    def whole_mask(self, embeds: Tensor, mask: Tensor, positions: Tensor, cache: Any, image: Tensor | None) -> Any:
        """What the language model gets as ``attention_mask``: by layer type at prefill."""
        from transformers.models.gemma3.modeling_gemma3 import create_masks_for_vision_model

        if image is None:
            return mask
        return create_masks_for_vision_model(self.language.config, embeds, mask, cache, positions[..., 0], _blocks(image))


def _blocks(image: Tensor) -> Tensor:
    """[B, S] a number for each run of visual tokens, -1 for text."""
    visual = image >= 0
    start = visual & ~F.pad(visual, (1, 0))[:, :-1]
    return torch.where(visual, start.cumsum(1) - 1, -1)
