"""Tokens that pass a CLIP tower beside an image: they see its tokens and one another, and its tokens do not see them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def pass_beside(layers: Sequence[Any], tokens: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
    """The states of tokens behind the blocks of a CLIP tower, in which an image's tokens are as without them.

    Args:
        layers: The blocks (``CLIPEncoderLayer``), in the dtype of the tokens.
        tokens: [B, g, d] states before the first block.
        keys: For each block, the keys of the image's tokens by head, [B, heads, N, d / heads].
        values: The same for their values.

    Returns:
        [B, g, d].
    """
    for layer, key, value in zip(layers, keys, values, strict=True):
        attention, normed = layer.self_attn, layer.layer_norm1(tokens)
        shape = (*tokens.shape[:2], key.shape[1], key.shape[3])

        def by_head(flat: Tensor, shape: tuple[int, ...] = shape) -> Tensor:
            return flat.view(shape).transpose(1, 2)

        all_keys = torch.cat([key, by_head(attention.k_proj(normed))], dim=2)
        all_values = torch.cat([value, by_head(attention.v_proj(normed))], dim=2)
        share = (by_head(attention.q_proj(normed)) @ all_keys.transpose(2, 3) * key.shape[3] ** -0.5).softmax(-1)
        tokens = tokens + attention.out_proj((share @ all_values).transpose(1, 2).flatten(2))
        tokens = tokens + layer.mlp(layer.layer_norm2(tokens))
    return tokens
