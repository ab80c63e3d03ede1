"""Attention that weights a merged token by the number of tokens in it: log sizes, added to the mask of a layer."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter

# Attention kernels that add a mask to their logits.
_KERNELS = ("sdpa", "eager")


def check_kernel(adapter: LanguageAdapter) -> None:
    """Refuse attention kernels that support no added weights.

    Raises:
        ParbenchError: The model's kernel is one of these.
    """
    kernel = adapter.language.config._attn_implementation
    if kernel not in _KERNELS:
        raise ParbenchError(
            f"model.attention={kernel} cannot weight merged tokens by their sizes: use model.attention=sdpa or eager, or "
            "method.proportional=false"
        )


def log_sizes(sizes: Tensor) -> Tensor | None:
    """What sizes [B, S] add to the attention logits of all queries, [B, S]; None if each is 1. Rounded to half precision."""
    return None if bool((sizes == 1).all()) else sizes.double().log().half()


def weighted_mask(mask: Tensor | None, added: Tensor, hidden: Tensor) -> Tensor:
    """An attention mask that also adds a number to the logits of each key.

    Args:
        mask: [B or 1, 1, Q, K], bool or added to the logits; None: causal, with all keys seen by the last query.
        added: [B, K'], K' at least K; if a layer stores only the last K keys, these count.
        hidden: [B, Q, d] the layer's input, whose dtype the result has.

    Returns:
        [B, 1, Q, K] in the dtype of ``hidden``.
    """
    queries = hidden.shape[1]
    if mask is None:
        mask = torch.ones(queries, added.shape[1], dtype=torch.bool, device=hidden.device).tril(added.shape[1] - queries)[
            None, None
        ]
    weights = added[:, None, None, -mask.shape[-1] :].to(hidden.dtype)
    if mask.dtype == torch.bool:
        return torch.where(mask, weights, torch.finfo(hidden.dtype).min)
    return mask + weights
