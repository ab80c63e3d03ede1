"""The first weights of qwen-tiny's LLM, from llava-tiny's, which has the same sizes but a key head for each query head.

Three heads of llava-tiny share a key head. Keys and values get the 32 dimensions in which the three heads' maps from query to key,
and from value to output, are largest (singular value decomposition); queries and outputs are changed to fit. Rotary positions are
ignored in this: llava-tiny's hardly turn most dimensions. The dimensions that matter most go where qwen-tiny's turn least.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlavaForConditionalGeneration, Qwen2_5_VLForConditionalGeneration

from tiny import continuation


def shipped() -> LlavaForConditionalGeneration:
    """The llava-tiny that parbench ships."""
    return LlavaForConditionalGeneration.from_pretrained(continuation.SHIPPED, dtype=torch.float32)


def adopt(qwen: Qwen2_5_VLForConditionalGeneration, llava: LlavaForConditionalGeneration, known: int) -> None:
    """Set embeddings and LLM layers from a llava-tiny.

    Args:
        qwen: The model; changed in place.
        llava: The llava-tiny.
        known: Number of pieces with which the vocabularies of both begin. The embeddings of others stay.
    """
    source, target = llava.model.language_model, qwen.model.language_model
    with torch.no_grad():
        target.embed_tokens.weight[:known] = source.embed_tokens.weight[:known]
        target.norm.load_state_dict(source.norm.state_dict())
        for old, new in zip(source.layers, target.layers, strict=True):
            for part in ("mlp", "input_layernorm", "post_attention_layernorm"):
                getattr(new, part).load_state_dict(getattr(old, part).state_dict())
            _share_keys(old.self_attn, new.self_attn)


def _share_keys(old: Any, new: Any) -> None:
    size, groups = new.head_dim, new.num_key_value_groups
    # Pairs of dimensions are turned together, the last pair least: order dimensions from the one that turns least.
    half = size // 2
    slow = torch.tensor([index for pair in reversed(range(half)) for index in (pair, pair + half)])
    query, key, value = (getattr(old, f"{part}_proj").weight.unflatten(0, (-1, groups, size)) for part in "qkv")
    out = old.o_proj.weight.unflatten(1, (-1, groups, size))
    for number in range(new.config.num_key_value_heads):
        scores = torch.einsum("gsa,gsb->gab", query[number], key[number])
        basis = torch.linalg.svd(scores.flatten(0, 1), full_matrices=False).Vh[:size]
        # As large as the old keys, so that queries and keys are trained at the same pace.
        scale = key[number].norm() / (groups * size) ** 0.5
        rows = slice(number * size, (number + 1) * size)
        new.k_proj.weight[rows][slow] = basis * scale
        new_query = torch.einsum("gab,sb->gsa", scores, basis) / scale
        new.q_proj.weight.unflatten(0, (-1, groups, size))[number][:, slow] = new_query
        written = torch.einsum("dgs,gsa->gda", out[:, number], value[number])
        basis = torch.linalg.svd(written.flatten(0, 1), full_matrices=False).Vh[:size]
        scale = value[number].norm() / (groups * size) ** 0.5
        new.v_proj.weight[rows] = basis * scale
        new.o_proj.weight.unflatten(1, (-1, groups, size))[:, number] = torch.einsum("gda,sa->dgs", written, basis) / scale
    for part in "qkv":
        getattr(new, f"{part}_proj").bias.zero_()
