"""Attention weights of a layer, computed from its queries and keys for the few queries that a method needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Attention weights held at once.
_MOST_WEIGHTS = 2**26


@dataclass(frozen=True)
class AttentionInputs:
    """What a layer gave its attention kernel, on the layer's device. Kernels return no weights, so they are computed from this.

    Attributes:
        queries: [B, heads, S, head width], after norm and rotation.
        keys: [B, key heads, S, head width], after norm and rotation. Query heads share key heads in consecutive groups.
        scaling: Factor of the product of queries and keys.
        softcap: Bound of the scaled product by a hyperbolic tangent; None for none.
        values: [B, key heads, S, head width]; None if they were not asked for.
    """

    queries: Tensor
    keys: Tensor
    scaling: float
    softcap: float | None = None
    values: Tensor | None = None

    def rows(self, mask: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Causal attention weights of some queries after the softmax, [E, heads, Q, S] in float64, on the device of ``mask``.

        Args:
            mask: [B, S], 1 for tokens, 0 for padding.
            row: [E] rows of the batch.
            column: [E, Q] the queries' columns.
        """
        home, at = mask.device, self.keys.device
        mask, row, column = mask.to(at), row.to(at), column.to(at)
        query = self.queries.transpose(1, 2)[row[:, None], column].transpose(1, 2)
        keys = self.keys[row].repeat_interleave(query.shape[1] // self.keys.shape[1], dim=1)
        scores = self._capped((query.float() @ keys.float().transpose(2, 3)).double())
        places = torch.arange(mask.shape[1], device=at)
        # A padding query attends at least to itself, which avoids NaN.
        seen = (mask[row].bool()[:, None] & (places <= column[..., None])) | (places == column[..., None])
        found: Tensor = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1).to(home)
        return found

    def of_mean_query(self, span: Tensor, row: Tensor) -> Tensor:
        """Attention weights of the mean query of some tokens to these tokens, without causality.

        Args:
            span: [E, S] bool, the tokens; at least one of each row.
            row: [E] rows of the batch.

        Returns:
            [E, heads, S] in float64, 0 outside the span, on the device of ``span``.
        """
        home, at = span.device, self.keys.device
        span, row = span.to(at), row.to(at)
        weights = span.double() / span.sum(1, keepdim=True)
        mean = torch.einsum("ehsd,es->ehd", self.queries[row].double(), weights)
        keys = self.keys[row].double()
        # Query heads share key heads in consecutive groups.
        scores = torch.einsum("ekgd,eksd->ekgs", mean.unflatten(1, (keys.shape[1], -1)), keys).flatten(1, 2)
        found: Tensor = self._capped(scores).masked_fill(~span[:, None], float("-inf")).softmax(-1).to(home)
        return found

    def _capped(self, products: Tensor) -> Tensor:
        """Attention logits of products of queries and keys."""
        scores = products * self.scaling
        return scores if self.softcap is None else (scores / self.softcap).tanh() * self.softcap

    def moved(self, move: Callable[[Tensor], Tensor]) -> AttentionInputs:
        """The same with other rows and columns: ``move`` maps values [B, S, ...] to those at the new places."""
        queries, keys = (move(values.transpose(1, 2)).transpose(1, 2) for values in (self.queries, self.keys))
        return replace(self, queries=queries, keys=keys)


def received(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention that each key receives, mean over queries, [V, heads, T] in float64. Each of the V is computed by itself.

    Args:
        query: [V, heads, Q, d].
        key: [V, heads, T, d].
        scaling: Factor of their product.
    """
    found = torch.zeros(key.shape[:3], dtype=torch.float64, device=key.device)
    step = max(1, _MOST_WEIGHTS // max(1, key.shape[1] * key.shape[2]))
    for total, queries, keys in zip(found, query.double(), key.double(), strict=True):
        for begin in range(0, queries.shape[1], step):
            total += (queries[:, begin : begin + step] @ keys.transpose(1, 2) * scaling).softmax(-1).sum(1)
    return found / query.shape[2]


def position_bias(position_embeddings: tuple[Tensor, Tensor], scaling: float, row: Tensor, column: Tensor) -> Tensor:
    """Attention logits due to rotary positions alone: scaled product of all-ones queries and keys, [E, Q, S] in float64.

    Args:
        position_embeddings: Cosines and sines, [B, S, head width] each; B may be 1 for equal rows.
        scaling: Factor of the product.
        row: [E] rows of the batch.
        column: [E, Q] the queries' columns. The result is on their device.
    """
    cos, sin = (table.double() for table in position_embeddings)
    # Rotating ones by half a head's width: the first half is negative.
    sign = torch.ones_like(sin)
    sign[..., : sin.shape[-1] // 2] = -1
    turned = cos + sign * sin
    home, row, column = row.device, row.to(turned.device), column.to(turned.device)
    if len(turned) == 1:
        row = torch.zeros_like(row)
    found: Tensor = (turned[row[:, None], column] @ turned[row].transpose(1, 2) * scaling).to(home)
    return found
