"""Attention weights of a Llama layer, recomputed for the few queries that a method needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionInputs:
    """The inputs of a layer's attention, on the layer's device, for recomputing weights that attention kernels do not return.

    Results are on the device of the arguments.

    Attributes:
        module: The layer's attention module.
        hidden: [B, S, d] normalised input of the attention.
        position_embeddings: Cosines and sines of the rotary positions, [B, S, head width] each.
        keys: [B, key heads, S, head width], after rotation.
    """

    module: Any
    hidden: Tensor
    position_embeddings: tuple[Tensor, Tensor]
    keys: Tensor

    def rows(self, mask: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Attention weights of some queries after the softmax, [E, heads, Q, S] in float64.

        Args:
            mask: [B, S], 1 for tokens, 0 for padding.
            row: [E] rows of the batch.
            column: [E, Q] the queries' columns.
        """
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

        home, at = mask.device, self.hidden.device
        mask, row, column = mask.to(at), row.to(at), column.to(at)
        where = (row[:, None], column)
        cos, sin = (table.expand(len(mask), -1, -1)[where] for table in self.position_embeddings)
        query = self.module.q_proj(self.hidden[where]).unflatten(-1, (-1, self.module.head_dim)).transpose(1, 2)
        query, _ = apply_rotary_pos_emb(query, query, cos, sin)
        keys = repeat_kv(self.keys, self.module.num_key_value_groups)[row]
        scores = (query.float() @ keys.float().transpose(2, 3)).double() * self.module.scaling
        places = torch.arange(mask.shape[1], device=self.hidden.device)
        # A padding query attends at least to itself, which avoids NaN.
        seen = (mask[row].bool()[:, None] & (places <= column[..., None])) | (places == column[..., None])
        found: Tensor = scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1).to(home)
        return found

    def position_bias(self, row: Tensor, column: Tensor) -> Tensor:
        """Attention logits due to positions alone: scaled product of all-ones queries and keys, [E, Q, S] in float64."""
        from transformers.models.llama.modeling_llama import rotate_half

        cos, sin = (table.double() for table in self.position_embeddings)
        ones = torch.ones_like(cos)
        turned = (ones * cos + rotate_half(ones) * sin).expand(len(self.hidden), -1, -1)
        home, row, column = row.device, row.to(turned.device), column.to(turned.device)
        found: Tensor = (turned[row[:, None], column] @ turned[row].transpose(1, 2) * self.module.scaling).to(home)
        return found


def attention_inputs(layer: Any, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor]) -> AttentionInputs:
    """The attention inputs of ``layer`` if ``hidden`` [B, S, d] were the input of the layer."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    module = layer.self_attn
    normed = layer.input_layernorm(hidden)
    keys = module.k_proj(normed).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
    position_embeddings = (position_embeddings[0].to(keys.device), position_embeddings[1].to(keys.device))
    _, keys = apply_rotary_pos_emb(keys, keys, *position_embeddings)
    return AttentionInputs(module, normed, position_embeddings, keys)
