"""Hooks for virtual unmerging: attention runs over all patches, linear layers run on merged tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.inputs import Rows
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.ops.selection import gather


class UnmergeHooks(LlmHooks):
    """Runs rows of merged tokens in an LLM whose attention runs over the un-merged sequence, at its original positions.

    At prefill, queries, keys and values are computed once per token and repeated at each place of the token. The output of
    attention
    is averaged over these places before the output projection. The KV cache has full length, so decoding only needs the right mask
    and position.
    """

    def __init__(self, adapter: LanguageAdapter, rows: Rows, trace: Trace) -> None:
        super().__init__(rows)
        self.adapter, self.trace = adapter, trace
        self.begin, self.columns = whole(rows), rows.embeds.shape[1]
        self.prefill = False
        # State of the current forward pass.
        self.source = self.mask = self.position_ids = self.normed = torch.empty(0)
        self.position_embeddings: tuple[Tensor, Tensor] | None = None
        self.attention_mask: Tensor | None = None

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        layers = self.adapter.language.layers
        handles = [layers[0].register_forward_pre_hook(self.start, with_kwargs=True)]
        for layer in layers:
            attention = layer.self_attn
            handles.append(attention.register_forward_pre_hook(self.widen, with_kwargs=True))
            for projection in (attention.q_proj, attention.k_proj, attention.v_proj):
                handles.append(projection.register_forward_pre_hook(self.give_tokens))
                handles.append(projection.register_forward_hook(self.repeat))
            handles.append(attention.o_proj.register_forward_pre_hook(self.narrow))
        return handles

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        self.mask = self.mask[stay]

    def start(self, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before layer 0: compute mask and positions of the full sequence, for all layers."""
        from transformers.masking_utils import create_causal_mask

        hidden, cache = args[0] if args else kwargs["hidden_states"], kwargs["past_key_values"]
        hidden = hidden.to(self.begin.device)
        self.prefill = cache.get_seq_length() == 0
        if self.prefill:
            # Without a cache, generated tokens follow the prompt.
            behind = torch.arange(self.columns, hidden.shape[1], device=hidden.device).expand(len(hidden), -1)
            self.source = torch.cat([self.begin, behind], dim=1)
            self.mask = (self.source >= 0).long()
            new = self.mask.shape[1]
        else:
            new = hidden.shape[1]
            self.mask = F.pad(self.mask, (0, new), value=1)
        self.position_ids = (self.mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
        self.position_embeddings = self.adapter.language.rotary_emb(hidden, position_ids=self.position_ids)
        self.attention_mask = create_causal_mask(
            config=self.adapter.language.config,
            inputs_embeds=hidden.new_empty(len(hidden), new, 1),
            attention_mask=self.mask,
            past_key_values=cache,
        )

    def widen(self, _attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before a layer's attention: pass it shape, mask and positions of the full sequence."""
        hidden = args[0] if args else kwargs["hidden_states"]
        if self.prefill:
            self.normed = hidden
            # Only the shape is used: the projections get the merged tokens.
            hidden = hidden[:, :1].expand(-1, self.source.shape[1], -1)
            if len(self.trace.attended) < len(self.adapter.language.layers):
                self.trace.attended.append(hidden.shape[1] - (self.mask == 0).sum(1))
        # The layers may be on several devices.
        at, position_embeddings, causal = hidden.device, self.position_embeddings, self.attention_mask
        kwargs = {
            **kwargs,
            "hidden_states": hidden,
            "position_ids": self.position_ids.to(at),
            "position_embeddings": position_embeddings and (position_embeddings[0].to(at), position_embeddings[1].to(at)),
            "attention_mask": None if causal is None else causal.to(at),
        }
        return args[1:], kwargs

    def give_tokens(self, _projection: Any, _args: tuple[Any, ...]) -> tuple[Tensor] | None:
        """Before a projection of queries, keys or values: pass it the merged tokens."""
        return (self.normed,) if self.prefill else None

    def repeat(self, _projection: Any, _args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """After the projection: repeat its output at every place of each token; padding is arbitrary."""
        return gather(output, self.source.clamp(min=0).to(output.device)) if self.prefill else None

    def narrow(self, _projection: Any, args: tuple[Any, ...]) -> tuple[Tensor] | None:
        """Before the output projection: average over the places of each token."""
        if not self.prefill:
            return None
        return (averaged(args[0], self.source.to(args[0].device), self.normed.shape[1]),)


def whole(rows: Rows) -> Tensor:
    """[B, L] the column in ``rows`` of each place of the un-merged sequence, padded with -1 on the left."""
    owners = iter(rows.owners)
    sources = []
    for mask, image in zip(rows.mask, rows.image, strict=True):
        columns = mask.nonzero().flatten()
        numbers = image[columns]
        parts, start = [], 0
        for number in range(int(numbers.max()) + 1):
            mine = (numbers == number).nonzero().flatten()
            parts += [columns[start : int(mine[0])], columns[mine][next(owners)]]
            start = int(mine[-1]) + 1
        sources.append(torch.cat([*parts, columns[start:]]))
    longest = max(len(source) for source in sources)
    return torch.stack([F.pad(source, (longest - len(source), 0), value=-1) for source in sources])


def averaged(values: Tensor, source: Tensor, columns: int) -> Tensor:
    """Mean over the places of each token, summed in float64; 0 for a token without places.

    Args:
        values: [B, L, d].
        source: [B, L] the token of each place; -1 for none.
        columns: Number of tokens, S.

    Returns:
        [B, S, d] in the dtype of ``values``.
    """
    # An additional column takes places without a token.
    index = source.masked_fill(source < 0, columns)
    total = torch.zeros(len(values), columns + 1, values.shape[2], dtype=torch.float64, device=values.device)
    total.scatter_add_(1, index[..., None].expand_as(values), values.double())
    places = torch.zeros(len(values), columns + 1, dtype=torch.float64, device=values.device)
    places.scatter_add_(1, index, torch.ones_like(index, dtype=places.dtype))
    return (total / places.clamp(min=1)[..., None])[:, :columns].to(values.dtype)
