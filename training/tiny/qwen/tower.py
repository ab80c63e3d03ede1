"""Qwen2.5-VL's vision tower on a batch of images of one shape.

It computes what ``Qwen2_5_VisionTransformerPretrainedModel`` does, but faster on a CPU: the patch embedding is a matrix product
instead of a 3-D convolution, and windows are attended to in batches instead of one after the other.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from parbench.scenes.world import PATCH
from tiny.qwen.architecture import MERGE

_UNIT = MERGE * MERGE


@lru_cache(maxsize=16)
def _order(rows: int, columns: int, window: int) -> tuple[torch.Tensor, tuple[int, ...], torch.Tensor]:
    """Order of the tokens by window, numbers of patches of the windows, and positions of the patches in the model's order."""
    grid = torch.tensor([[1, rows, columns]])
    order, ends = get_vision_window_index(grid, MERGE, window, PATCH)
    return order, tuple(ends.diff().tolist()), get_vision_position_ids(grid, MERGE)


def to_blocks(pixels: torch.Tensor) -> torch.Tensor:
    """Images [B, 3, height, width] as patches [B, tokens, MERGE * MERGE, 3 * PATCH * PATCH], those of a visual token together."""
    batch, channels, height, width = pixels.shape
    rows, columns = height // (MERGE * PATCH), width // (MERGE * PATCH)
    split = pixels.reshape(batch, channels, rows, MERGE, PATCH, columns, MERGE, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
    return split.reshape(batch, rows * columns, _UNIT, channels * PATCH * PATCH)


def to_raster(blocks: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Patches [B, tokens, MERGE * MERGE, d] in raster order [B, rows * columns, d]."""
    split = blocks.unflatten(1, (rows // MERGE, columns // MERGE)).unflatten(3, (MERGE, MERGE))
    found: torch.Tensor = split.transpose(2, 3).reshape(len(blocks), rows * columns, -1)
    return found


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-high, low], dim=-1) * sin


def _products(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention in float32, also under autocast: on a CPU, the backward pass of torch's takes many times as long in bfloat16."""
    with torch.autocast(query.device.type, enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float())


def _attend(
    attention: Any, hidden: torch.Tensor, turned: tuple[torch.Tensor, torch.Tensor], lengths: tuple[int, ...]
) -> torch.Tensor:
    """Self-attention within consecutive segments of the patches [B, N, d]."""
    batch, count, _ = hidden.shape
    query, key, value = attention.qkv(hidden).view(batch, count, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    query, key = (_rotate(x.float(), *turned) for x in (query, key))
    if len(set(lengths)) == 1:
        # Segments of one length are a batch: [B, heads, segments, length, d].
        split = [x.unflatten(2, (-1, lengths[0])).transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
        seen = _products(*split).unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)
    else:
        parts = zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
        seen = torch.cat([_products(*part) for part in parts], dim=2)
    found: torch.Tensor = attention.proj(seen.transpose(1, 2).flatten(2))
    return found


def patch_features(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """What enters the merger [B, tokens, MERGE * MERGE, d], in raster order of the tokens.

    Args:
        tower: The vision tower.
        pixels: [B, 3, height, width] images, or [B, 2, 3, height, width] pairs of frames of clips, all of one shape and as the
            processor normalises them. Height and width are multiples of 28.
    """
    rows, columns = pixels.shape[-2] // PATCH, pixels.shape[-1] // PATCH
    order, lengths, places = _order(rows, columns, tower.window_size)
    weight = tower.patch_embed.proj.weight
    if pixels.ndim == 4:
        # An image is two equal frames.
        hidden = F.linear(to_blocks(pixels)[:, order], weight.sum(2).flatten(1)).flatten(1, 2)
    else:
        parts = [F.linear(to_blocks(frame)[:, order], weight[:, :, at].flatten(1)) for at, frame in enumerate(pixels.unbind(1))]
        hidden = torch.stack(parts).sum(0).flatten(1, 2)
    cos, sin = tower.rotary_pos_emb(hidden, places)
    turned = tuple(x.unflatten(0, (-1, _UNIT))[order].flatten(0, 1) for x in (cos, sin))
    for number, block in enumerate(tower.blocks):
        segments = (rows * columns,) if number in tower.fullatt_block_indexes else lengths
        hidden = hidden + _attend(block.attn, block.norm1(hidden), (turned[0], turned[1]), segments)
        hidden = hidden + block.mlp(block.norm2(hidden))
    found: torch.Tensor = hidden.unflatten(1, (-1, _UNIT))[:, order.argsort()]
    return found


def merged(tower: Any, features: torch.Tensor) -> torch.Tensor:
    """The visual tokens [B, tokens, d] of :func:`patch_features`."""
    found: torch.Tensor = tower.merger(features.flatten(0, 2)).unflatten(0, features.shape[:2])
    return found
