"""What a vision block has computed when a method chooses its tokens, and the choice to drop some of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockView:
    """The attention of a vision block over the sequences of B images, of up to T tokens each. The first token is CLS.

    Attributes:
        block: The 0-based block.
        queries: [B, T, C] queries of all heads side by side, padded at the end.
        keys: [B, T, C] its keys.
        values: [B, T, C] its values.
        heads: Number of heads.
        counts: [B] tokens of each image, CLS included.
        size: [B, T] patches in each token; 0 for padding.
        carried: [B, T] what the method handed on with its last :class:`Cut`; None if nothing.
    """

    block: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    heads: int
    counts: Tensor
    size: Tensor
    carried: Tensor | None = None

    @cached_property
    def valid(self) -> Tensor:
        """[B, T] bool: False for padding."""
        return torch.arange(self.keys.shape[1], device=self.keys.device)[None] < self.counts[:, None]

    @cached_property
    def metric(self) -> Tensor:
        """[B, T, m] keys in float64, mean over heads."""
        return self.of_heads(self.keys).mean(2)

    @cached_property
    def cls_attention(self) -> Tensor:
        """[B, T] attention of CLS in float64, mean over heads, with the weights that merged tokens have; 0 for padding."""
        query, keys = self.of_heads(self.queries)[:, 0], self.of_heads(self.keys)
        logits = torch.einsum("bhm,bthm->bht", query, keys) * keys.shape[-1] ** -0.5
        found: Tensor = (logits + self.size.double().log()[:, None]).softmax(-1).mean(1)
        return found

    def of_heads(self, projected: Tensor) -> Tensor:
        """Queries, keys or values by head, [B, T, heads, m] in float64."""
        return projected.double().view(*projected.shape[:2], self.heads, -1)


@dataclass(frozen=True)
class Cut:
    """The tokens that stay behind a vision block. Unlike merging, which happens before the block's MLP, it acts on its output.

    Attributes:
        keep: [B, T] bool, False for padding. CLS stays.
        carried: [B, T] numbers that the method gets again in the next block, for the tokens that stay; None for none.
    """

    keep: Tensor
    carried: Tensor | None = None
