"""Attention for training on a processor: the same function as PyTorch's, with a backward pass of plain matrix products.

PyTorch's fused attention on processors takes most of its time in the backward pass. Here a step works on some rows of one image,
whose weights stay in the processor's cache, and leaves out the keys that causality hides.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

_ROWS = 128
_NAME = "rowwise"


def _products(left: Tensor, right: Tensor, added: Tensor | None, scale: float) -> Tensor:
    if added is None:
        return torch.bmm(left, right).mul_(scale)
    return torch.baddbmm(added.to(left.dtype).expand(len(left), -1, -1), left, right, alpha=scale)


class _Rowwise(torch.autograd.Function):
    """Scaled dot-product attention of [B, H, N, d] queries, keys and values with an additive mask [B, 1, N, N] or None."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, causal: bool) -> Tensor:
        out, count = torch.empty_like(query), query.shape[2]
        weights = []
        for image in range(len(query)):
            for start in range(0, count, _ROWS):
                end = min(start + _ROWS, count)
                seen = end if causal else count
                added = None if mask is None else mask[image, :, start:end, :seen]
                scores = _products(query[image, :, start:end], key[image, :, :seen].transpose(1, 2), added, scale)
                weights.append(scores.softmax(-1))
                out[image, :, start:end] = torch.bmm(weights[-1], value[image, :, :seen])
        ctx.save_for_backward(query, key, value, *weights)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (outer,) = gradients
        query, key, value, *weights = ctx.saved_tensors
        of_query, of_key, of_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        count = query.shape[2]
        pieces = iter(weights)
        for image in range(len(query)):
            for start in range(0, count, _ROWS):
                share = next(pieces)
                rows, seen = slice(start, start + share.shape[1]), share.shape[2]
                given = outer[image, :, rows].to(query.dtype)
                of_value[image, :, :seen].baddbmm_(share.transpose(1, 2), given)
                of_share = torch.bmm(given, value[image, :, :seen].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_share, share, -1, share.dtype)
                of_query[image, :, rows] = torch.bmm(of_scores, key[image, :, :seen])
                of_key[image, :, :seen].baddbmm_(of_scores.transpose(1, 2), query[image, :, rows])
        return of_query.mul_(ctx.scale), of_key.mul_(ctx.scale), of_value, None, None, None


def _attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (each.repeat_interleave(groups, dim=1) for each in (key, value))
    # Rotary positions are float32; the products are of the values' precision, as autocast has it.
    query, key, value = (each.to(value.dtype).contiguous() for each in (query, key, value))
    found = _Rowwise.apply(query, key, value, attention_mask, scaling, attention_mask is not None)
    return found.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)


def attend_rowwise(model: PreTrainedModel) -> None:
    """Let a model attend this way from now on. A mask that it is given must be causal and additive, in four dimensions."""
    model.set_attn_implementation(_NAME)
