"""Puts a reducer's hooks into a model's LLM, and the ledger's, and always takes them out again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from parbench.engine.sequence import Rows
from parbench.models.adapter import LlavaAdapter
from parbench.reducers.base import LayerReducer, Reducer
from parbench.reducers.ops.selection import top_k


@dataclass
class Trace:
    """What happened to a batch at prefill, layer by layer.

    Attributes:
        layers: For each LLM layer, the tokens of each row that entered it, [B], from tensor shapes.
        visual: The visual tokens among them, [B].
        image: For each layer, the image number of what entered, [B, S] (-1 for text and padding).
        patch: The same for the patch.
        flops: The reducer's own FLOPs inside the LLM, over the batch.
    """

    layers: list[Tensor] = field(default_factory=list)
    visual: list[Tensor] = field(default_factory=list)
    image: Tensor | None = None
    patch: Tensor | None = None
    flops: int = 0


class _State:
    """The rows as they are at the layer that runs."""

    def __init__(self, rows: Rows) -> None:
        self.mask, self.image, self.patch = rows.mask, rows.image, rows.patch


class _LayerCut:
    """Drops tokens before a layer; the layers behind it see a shorter sequence, at prefill and while decoding."""

    def __init__(self, adapter: LlavaAdapter, reducer: LayerReducer, rows: Rows, state: _State, trace: Trace) -> None:
        self.adapter, self.reducer, self.state, self.trace = adapter, reducer, state, trace
        self.rows = rows
        self.at = reducer.cut(adapter.geometry)
        self.prefilled = False
        self.keep: Tensor | None = None
        self.mask = rows.mask
        self.positions = rows.positions
        self.causal: Tensor | None = None
        self.dropped = torch.zeros(len(rows.mask), dtype=torch.long, device=rows.mask.device)

    def handles(self) -> list[Any]:
        layers = self.adapter.language.layers
        handles = [layers[self.at - 1].self_attn.register_forward_hook(self.choose, with_kwargs=True)]
        return handles + [
            layer.register_forward_pre_hook(self.shorten, with_kwargs=True) for layer in layers[self.at :]
        ]

    def choose(self, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """After the layer before the cut: recompute the last query's attention and choose."""
        if self.prefilled:
            return
        with FlopCounterMode(display=False) as counter:
            weights = last_attention(attention, args, kwargs, self.rows.mask)
            scores = torch.stack([self.reducer.score(row) for row in weights])
        self.trace.flops += counter.get_total_flops()
        keep = self.rows.mask.bool() & (self.rows.image < 0)
        count = self.reducer.keep(self.adapter.geometry)
        for number in range(int(self.rows.image.max()) + 1):
            mine = self.rows.image == number
            best = top_k(scores.masked_fill(~mine, float("-inf")), min(count, scores.shape[1]))
            keep |= torch.zeros_like(mine).scatter_(1, best, True) & mine
        self.keep = keep

    def shorten(
        self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before each layer from the cut on: give it the sequence, mask and positions that belong to it."""
        hidden = args[0] if args else kwargs["hidden_states"]
        index = layer.self_attn.layer_idx
        if not self.prefilled and index == self.at:
            hidden = self._cut(hidden)
        if not self.prefilled:
            positions = self.positions
        else:
            positions = kwargs["position_ids"].expand(len(self.mask), -1)
            if self.reducer.positions == "compact":
                positions = positions - self.dropped[:, None]
            if index == self.at:
                self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), hidden.shape[1])], dim=1)
        if index == self.at:
            # One mask serves all layers from here on: they hold equally many keys.
            self.causal = self._causal(hidden, kwargs["past_key_values"])
        kwargs = dict(kwargs)
        kwargs["position_ids"] = positions
        kwargs["position_embeddings"] = self.adapter.language.rotary_emb(hidden, position_ids=positions)
        kwargs["attention_mask"] = self.causal
        if index == len(self.adapter.language.layers) - 1:
            self.prefilled = True
        return (hidden, *args[1:]), kwargs

    def _causal(self, hidden: Tensor, cache: Any) -> Tensor | None:
        from transformers.masking_utils import create_causal_mask

        return create_causal_mask(
            config=self.adapter.language.config, inputs_embeds=hidden, attention_mask=self.mask, past_key_values=cache,
            layer_idx=self.at,
        )  # fmt: skip

    def _cut(self, hidden: Tensor) -> Tensor:
        keep = self.keep
        if keep is None:
            raise RuntimeError("the layer before the cut did not run")
        lengths = keep.sum(1)
        longest = int(lengths.max())
        # Left padding again: what is not kept sorts to the front, and the front is cut off.
        order = keep.to(torch.uint8).argsort(dim=1, stable=True)[:, keep.shape[1] - longest :]
        valid = torch.arange(longest, device=keep.device)[None] >= longest - lengths[:, None]
        state = self.state
        state.image = state.image.gather(1, order).masked_fill(~valid, -1)
        state.patch = state.patch.gather(1, order).masked_fill(~valid, -1)
        state.mask = valid.long()
        self.mask = state.mask
        self.dropped = self.rows.mask.sum(1) - lengths
        positions = self.rows.positions.gather(1, order)
        if self.reducer.positions == "compact":
            positions = (self.mask.cumsum(1) - 1).clamp(min=0)
        self.positions = positions
        return hidden.gather(1, order[..., None].expand(-1, -1, hidden.shape[2]))


def last_attention(attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Tensor) -> Tensor:
    """Softmaxed attention of the last query of a layer that has just run, [B, heads, S] in float32.

    The attention kernel gives no weights; the keys are in the cache, so only one query has to be computed again.
    """
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

    hidden = args[0] if args else kwargs["hidden_states"]
    cos, sin = kwargs["position_embeddings"]
    batch = len(hidden)
    query = attention.q_proj(hidden[:, -1:]).view(batch, 1, -1, attention.head_dim).transpose(1, 2)
    query, _ = apply_rotary_pos_emb(query, query, cos[:, -1:], sin[:, -1:])
    keys = repeat_kv(kwargs["past_key_values"].layers[attention.layer_idx].keys, attention.num_key_value_groups)
    scores = (query.float() @ keys.float().transpose(2, 3))[:, :, 0] * attention.scaling
    return scores.masked_fill(~mask[:, None].bool(), float("-inf")).softmax(-1)


@contextmanager
def install(adapter: LlavaAdapter, reducer: Reducer, rows: Rows) -> Iterator[Trace]:
    """While open, the LLM runs ``rows`` with the reducer in it, and what enters each layer at prefill is traced.

    The hooks are gone afterwards, whatever happens inside.
    """
    trace, state = Trace(), _State(rows)
    depth = len(adapter.language.layers)
    handles: list[Any] = []

    def record(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(trace.layers) == depth:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        padding = (state.mask == 0).sum(1)
        trace.layers.append(hidden.shape[1] - padding)
        trace.visual.append((state.image >= 0).sum(1))
        trace.image, trace.patch = state.image, state.patch

    try:
        if isinstance(reducer, LayerReducer):
            handles += _LayerCut(adapter, reducer, rows, state, trace).handles()
        # Registered last, so that it sees what the layer really gets.
        handles += [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in adapter.language.layers]
        yield trace
    finally:
        for handle in handles:
            handle.remove()
