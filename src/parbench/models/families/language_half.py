"""The language model of a family: layers, positions, masks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from parbench.models.families.prepared import ImageTokens

# Transformers' name of layers that see only the nearest tokens.
SLIDING = "sliding_attention"


class LanguageHalf:
    """What a family says of its language model.

    Attributes:
        model: The Hugging Face model.
    """

    model: Any

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.model.model.language_model

    # The language model.

    def positions(self, ids: Tensor, _images: Sequence[ImageTokens]) -> Tensor:
        """Position ids [L, P] of an expanded prompt [L] without padding, as Hugging Face has them."""
        return torch.arange(len(ids))[:, None]

    def layer_kind(self, layer: int) -> str:
        """The kind of attention of a layer, as transformers calls it."""
        config = self.language.config
        if kinds := getattr(config, "layer_types", None):
            return str(kinds[layer])
        return SLIDING if getattr(config, "sliding_window", None) and config.model_type == "mistral" else "full_attention"

    def window(self, layer: int) -> int | None:
        """Number of nearest tokens that a layer sees; None if it sees all before."""
        return int(self.language.config.sliding_window) if self.layer_kind(layer) == SLIDING else None

    @cached_property
    def slides(self) -> bool:
        """Whether some layers see only the nearest tokens."""
        return any(self.layer_kind(layer) == SLIDING for layer in range(len(self.language.layers)))

    def for_language(self, positions: Tensor) -> Tensor:
        """Position ids [B, S, P] as the language model wants them: [B, S], or [3, B, S]."""
        return positions[..., 0] if positions.shape[-1] == 1 else positions.permute(2, 0, 1)

    def rotary(self, hidden: Tensor, positions: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for a layer at positions [B, S, P]."""
        found: tuple[Tensor, Tensor] = self.language.rotary_emb(hidden, position_ids=self.for_language(positions))
        return found

    def causal_mask(self, layer: int, hidden: Tensor, mask: Tensor, cache: Any, _image: Tensor | None) -> Tensor | None:
        """The attention mask of a layer, for tokens [B, S] whose keys have the mask [B, K].

        Args:
            layer: Its index.
            hidden: [B, S, d].
            mask: [B, K], 1 for tokens and 0 for padding.
            cache: The KV cache.
            _image: [B, S] the image of each token at prefill, -1 for none; None while decoding.
        """
        from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

        make = create_sliding_window_causal_mask if self.layer_kind(layer) == SLIDING else create_causal_mask
        found: Tensor | None = make(
            config=self.language.config, inputs_embeds=hidden, attention_mask=mask, past_key_values=cache, layer_idx=layer
        )
        return found

    def whole_mask(self, _embeds: Tensor, mask: Tensor, _positions: Tensor, _cache: Any, _image: Tensor | None) -> Any:
        """What the language model gets as ``attention_mask`` for a whole sequence."""
        return mask
