"""Attention weights of a layer, computed from its queries and keys for the few queries that a method needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionInputs:
    """What a layer gave its attention kernel, on the layer's device. Kernels return no weights, so they are computed from this.

    Attributes:
        queries: [B, heads, S, head width], after norm and rotation.
        keys: [B, key heads, S, head width], after norm and rotation. Query heads share key heads in consecutive groups.
        scaling: Factor of the product of queries and keys.
        softcap: Bound of the scaled product by a hyperbolic tangent; None for none.
    """

    queries: Tensor
    keys: Tensor
    scaling: float
    softcap: float | None = None

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
        scores = (query.float() @ keys.float().transpose(2, 3)).double() * self.scaling
        if self.softcap is not None:
            scores = (scores / self.softcap).tanh() * self.softcap
        places = torch.arange(mask.shape[1], device=at)
        # A padding query attends at least to itself, which avoids NaN.
        seen = (mask[row].bool()[:, None] & (places <= column[..., None])) | (places == column[..., None])
        found: Tensor = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1).to(home)
        return found

    def moved(self, move: Callable[[Tensor], Tensor]) -> AttentionInputs:
        """The same with other rows and columns: ``move`` maps values [B, S, ...] to those at the new places."""
        queries, keys = (move(values.transpose(1, 2)).transpose(1, 2) for values in (self.queries, self.keys))
        return replace(self, queries=queries, keys=keys)


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
