"""Hooks that drop visual tokens before layers of the LLM, at prefill and during decoding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks, extended
from parbench.engine.hooks.cutting import averaged, choose_by_size, compose, hidden_from_attention, shorten, token_sizes
from parbench.engine.hooks.segments import Segment
from parbench.engine.hooks.weighing import check_kernel, log_sizes
from parbench.engine.inputs import Rows
from parbench.engine.reach import check_reach
from parbench.engine.trace import Stage, Trace
from parbench.models.adapter import LanguageAdapter
from parbench.models.attention import AttentionInputs
from parbench.models.counting import add_flops, own_flops, without_flops
from parbench.models.listening import Take, attention_inputs
from parbench.reducers import LayerReducer, Provenance
from parbench.reducers.layer_probes import Before, Layout, View


@dataclass(frozen=True)
class Packed:
    """The places of the tokens of B lines while several lines follow one shared prefix in the same row.

    Attributes:
        row: [B] row of each line.
        column: [B, S] columns of its tokens, in order, padded on the left by arbitrary ones.
        tokens: [B] number of its tokens.
    """

    row: Tensor
    column: Tensor
    tokens: Tensor

    def take(self, values: Tensor) -> Tensor:
        """Values [G, L, ...] of rows to values [B, S, ...] of lines, on the same device."""
        return values[self.row[:, None].to(values.device), self.column.to(values.device)]


class LayerHooks(LlmHooks):
    """Runs a ``LayerReducer`` inside the LLM.

    A forward pass with an empty KV cache is a prefill: at the layer of each stage the method chooses, and the sequence gets
        shorter.
    Later forward passes get, segment by segment, the mask and positions that belong to the cached keys.

    Args:
        adapter: The model.
        reducer: The method.
        rows: The lines, one row each.
        trace: The trace to be filled.
        place: If lines enter the LLM in shared rows: returns their places in the current forward pass. From the first stage on,
            each line has its own row.
    """

    def __init__(
        self, adapter: LanguageAdapter, reducer: LayerReducer, rows: Rows, trace: Trace, place: Callable[[], Packed] | None = None
    ) -> None:
        super().__init__(rows)
        self.adapter, self.reducer, self.trace, self.place = adapter, reducer, trace, place
        self.packed: Packed | None = None
        self.stages = reducer.stages(adapter.geometry)
        check_reach(adapter, reducer, int(rows.mask.sum(1).max()))
        if reducer.weighs_sizes:
            check_kernel(adapter)
        self.compacts = reducer.compacts and adapter.renumbers
        self.begin = Layout.start(rows.mask, rows.positions, rows.image, rows.patch)
        self.positions = rows.positions
        self.layout = self.begin
        self.embeds = rows.embeds
        self.segments: list[Segment] = []
        self.mix: Tensor | None = None
        self.before: Before | None = None
        self.heard: AttentionInputs | None = None
        self.attention_kwargs: dict[str, Any] = {}
        self.layer_input = rows.embeds
        self.prefill = False

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        layers = self.adapter.language.layers
        handles = [
            self.adapter.language.register_forward_pre_hook(self.note_positions, with_kwargs=True),
            layers[0].register_forward_pre_hook(self.start, with_kwargs=True),
        ]
        for at in self.stages:
            below = layers[at - 1]
            handles.append(below.self_attn.register_forward_pre_hook(self.look, with_kwargs=True))
            handles.append(below.mlp.register_forward_pre_hook(lambda _mlp, args: self.look_at_mlp(args[0])))
        for index in range(self.stages[0] if self.stages else len(layers), len(layers)):
            handles.append(layers[index].register_forward_pre_hook(partial(self.enter, index), with_kwargs=True))
        for at in self.stages:
            # Registered last, so that it sees a sequence that was shortened before this layer.
            handles.append(layers[at - 1].register_forward_pre_hook(self.look_at_layer, with_kwargs=True))
        return handles

    def note_positions(self, _language: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the LLM: store the position ids, which layers do not get in every family."""
        self.positions = self.adapter.from_language(kwargs["position_ids"])

    def start(self, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before layer 0: determine whether this is a prefill or a decoding step."""
        self.prefill = kwargs["past_key_values"].get_seq_length() == 0
        self.packed = self.place() if self.place else None
        if self.prefill:
            if self.packed:
                self.embeds, self.layout = self.rows.embeds, self.begin
            else:
                at = self.begin.mask.device
                self.embeds = (args[0] if args else kwargs["hidden_states"]).to(at)
                self.layout = self.begin.extended(self.embeds.shape[1], self.positions.to(at))
            self.streams = extended(self.rows.streams, (args[0] if args else kwargs["hidden_states"]).shape[1])
            self.segments, self.mix = [], None
            self.trace.passes.append([])

    def listens(self) -> dict[nn.Module, Take]:
        """The attention before each stage."""
        layers = self.adapter.language.layers
        return {layers[at - 1].self_attn: self.hear for at in self.stages}

    def look_at_layer(self, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the layer before a stage: store its input."""
        if self.prefill:
            self.layer_input = args[0] if args else kwargs["hidden_states"]

    def look(self, _attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the attention before a stage: store its inputs."""
        if self.prefill:
            self.attention_kwargs = {"hidden_states": args[0], **kwargs} if args else kwargs

    def hear(self, inputs: AttentionInputs) -> None:
        """In the attention before a stage: store its queries and keys."""
        if self.prefill:
            self.heard = inputs

    def look_at_mlp(self, mlp_input: Tensor) -> None:
        """Before the MLP before a stage."""
        if not self.prefill:
            return
        if self.heard is None:
            raise RuntimeError("the attention before the stage does not use transformers' registry of attention kernels")
        given = self.attention_kwargs
        embeddings, normed = given["position_embeddings"], given["hidden_states"]
        self.before = Before(self.heard, embeddings, normed, mlp_input, self.layer_input)
        self.heard, self.attention_kwargs = None, {}

    def enter(
        self, index: int, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before each layer from the first stage on: pass it the right sequence, mask and positions."""
        hidden = args[0] if args else kwargs["hidden_states"]
        number = sum(at <= index for at in self.stages) - 1
        first = self.stages[number] == index
        if first and self.packed and number == 0:
            self.positions = self.packed.take(self.positions)
            hidden, kwargs = self.unpack(hidden, kwargs, self.packed)
        if first and self.prefill:
            hidden = self.cut(number, layer, hidden, kwargs)
        segment = self.segments[number]
        if first:
            if self.prefill:
                segment.position_ids = segment.layout.positions
            else:
                segment.extend(hidden.shape[1], self.positions, self.compacts)
            segment.by_kind = {}
        image = segment.layout.image if self.prefill else None
        given = segment.inputs(self.adapter, index, hidden, kwargs["past_key_values"], image)
        return (hidden, *args[1:]), {**kwargs, **given}

    def unpack(self, hidden: Tensor, kwargs: dict[str, Any], packed: Packed) -> tuple[Tensor, dict[str, Any]]:
        """Give each line its own row, as if it had run alone so far."""
        cosines, sines = kwargs["position_embeddings"]
        position_embeddings = (packed.take(cosines), packed.take(sines))
        if self.prefill and self.before is not None:
            # The previous layer may be on another device: each has its own cosines and sines.
            self.before = self.before.moved(packed.take)
        if self.prefill and self.streams is not None:
            self.streams = torch.stack([packed.take(stream) for stream in self.streams])
        return packed.take(hidden), {**kwargs, "position_embeddings": position_embeddings}

    def entering(self, hidden: Tensor) -> Tensor:
        """[B] tokens of each line that enter a layer at prefill, for the layer's input [B, S, d]."""
        if self.packed and len(self.trace.layers) < self.stages[0]:
            return self.packed.tokens
        return hidden.shape[1] - (self.layout.mask == 0).sum(1)

    @property
    def image(self) -> Tensor:
        """[B, S] index of each token's image in the current layout; -1 for text and padding."""
        return self.layout.image

    def cut(self, number: int, layer: Any, hidden: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """Let the method choose tokens. Returns the shorter sequence [B, S', d]."""
        before = self.before
        if before is None:
            raise RuntimeError("the layer before the stage did not run")
        kind = self.adapter.layer_kind(self.stages[number])
        last = self.segments[-1].by_kind.get(kind) if self.segments else None
        position_embeddings = (last or kwargs)["position_embeddings"]
        # The layers may be on several devices; the inputs of a method are on that of the rows.
        hidden = hidden.to(self.embeds.device)
        view = View(
            self.adapter.geometry,
            number,
            self.layout,
            self.begin,
            self.embeds,
            hidden,
            before,
            # Images of several sizes are asked about one after the other: these are computed for the batch, once.
            cache(lambda queries=True: _ahead(layer, hidden, position_embeddings, queries)),
            cache(lambda: _unturned(layer, hidden, position_embeddings)),
            lambda states: self.adapter.language.norm(states).to(states.device),
            self.rows.seeds,
            self.rows.words,
        )
        old, added = self.layout, None
        with own_flops() as counted:
            choice = self.replay[number] if self.replay else choose_by_size(self.reducer, view, self.rows.sizes)
            if self.reducer.masked:
                self.layout = hidden_from_attention(old, choice)
            else:
                sizes = [token_sizes(old, choice)[..., None]] if self.reducer.weighs_sizes else []
                tensors = [*averaged([hidden, *self._streams()], view, choice), *sizes]
                (hidden, *rest), self.layout = shorten(tensors, view, choice, self.compacts)
                if sizes:
                    added = log_sizes(rest.pop()[..., 0])
                self.streams = torch.stack(rest) if rest else None
        self.trace.flops += counted()
        self.mix = compose(self.mix, old, choice, int(self.begin.source.max()) + 1)
        dropped = self.begin.mask.sum(1) - self.layout.mask.sum(1) + self.embeds.shape[1] - self.begin.mask.shape[1]
        self.segments.append(Segment(self.layout, self.layout.mask, dropped, self.layout.positions, added))
        self.trace.passes[-1].append(Stage(self.stages[number], old, choice, self.layout))
        return hidden

    def _streams(self) -> list[Tensor]:
        """What is still to be added behind layers, [B, S, d] each, on the device of the rows."""
        return [] if self.streams is None else [stream.to(self.embeds.device) for stream in self.streams]

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        for segment in self.segments:
            segment.leave(stay)

    def origin(self) -> Provenance:
        """The visual tokens on entering the LLM that those of the last layer come from."""
        index, valid = self.layout.visual
        if self.mix is not None:
            return Provenance.from_dense(self.mix, valid.sum(1))
        image, token = valid.nonzero(as_tuple=True)
        source = self.layout.source[self.layout.row[image], index[image, token]]
        return Provenance(image, token, source, torch.ones(len(source), dtype=torch.float64, device=source.device))


def _ahead(layer: Any, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor], queries: bool) -> AttentionInputs:
    """The attention inputs of a layer that has not run. Of its projections, the keys count as the method's work."""
    with without_flops():
        found = attention_inputs(layer, hidden, position_embeddings, queries=queries)
    add_flops(2 * found.keys.numel() * hidden.shape[-1])
    return found


def _unturned(layer: Any, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor]) -> AttentionInputs:
    """The same without rotary positions. Of the projections, the queries count: turning these keys would give those above."""
    cosines, sines = position_embeddings
    with without_flops():
        found = attention_inputs(layer, hidden, (torch.ones_like(cosines), torch.zeros_like(sines)))
    add_flops(2 * found.queries.numel() * hidden.shape[-1])
    return found
