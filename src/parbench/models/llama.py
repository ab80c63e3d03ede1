"""Attention of a Llama layer, recomputed for the few queries that a method asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class AttentionInputs:
    """What a layer's attention is computed from, on the layer's device; the attention kernels give no weights.

    Results are on the device of what is asked with.

    Attributes:
        module: The layer's attention.
        hidden: [B, S, d] its normalised input.
        position_embeddings: Cosines and sines of the positions, [B, S, head width] each.
        keys: [B, key heads, S, head width], rotated.
    """

    module: Any
    hidden: Tensor
    position_embeddings: tuple[Tensor, Tensor]
    keys: Tensor

    def rows(self, mask: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Softmaxed attention of some queries, [E, heads, Q, S] in float64.

        Args:
            mask: [B, S], 1 where a token is.
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
        # A query that is padding sees itself at least, so that nothing is no number.
        seen = (mask[row].bool()[:, None] & (places <= column[..., None])) | (places == column[..., None])
        return scores.masked_fill(~seen[:, None], float("-inf")).softmax(-1).to(home)

    def position_bias(self, row: Tensor, column: Tensor) -> Tensor:
        """What rotary positions alone give: scaled product of all-ones queries and keys, [E, Q, S] in float64, no softmax."""
        from transformers.models.llama.modeling_llama import rotate_half

        cos, sin = (table.double() for table in self.position_embeddings)
        ones = torch.ones_like(cos)
        turned = (ones * cos + rotate_half(ones) * sin).expand(len(self.hidden), -1, -1)
        home, row, column = row.device, row.to(turned.device), column.to(turned.device)
        return (turned[row[:, None], column] @ turned[row].transpose(1, 2) * self.module.scaling).to(home)


def attention_inputs(layer: Any, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor]) -> AttentionInputs:
    """What ``layer``'s attention would be computed from, were ``hidden`` [B, S, d] its input."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    module = layer.self_attn
    normed = layer.input_layernorm(hidden)
    keys = module.k_proj(normed).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
    position_embeddings = (position_embeddings[0].to(keys.device), position_embeddings[1].to(keys.device))
    _, keys = apply_rotary_pos_emb(keys, keys, *position_embeddings)
    return AttentionInputs(module, normed, position_embeddings, keys)
