"""One timed pass of a batch, from pixels on the device to answers of a fixed length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parbench.bench.batch import Batch
from parbench.bench.clock import Laps
from parbench.bench.instrument import projector_laps
from parbench.engine.assemble import visuals
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Rows, build_rows
from parbench.engine.reduced import Reduced
from parbench.models.adapter import ModelAdapter
from parbench.models.counting import uncounted


@dataclass(frozen=True)
class Pass:
    """The results of a pass.

    Attributes:
        seconds: By lap: ``vision`` (pixels to features), ``projector``, ``selection`` (method overhead, at any site),
            ``assembly`` (the LLM's input), ``prefill`` (to the first token), ``ttft`` (from pixels to the first token), ``decode``
            (the other tokens). Selection is part of vision, between vision and assembly, or part of prefill.
        ids: [B, T] generated token ids.
        cache: Bytes of keys and values of each LLM layer after prefill; empty for a method without KV cache.
    """

    seconds: dict[str, float]
    ids: Tensor
    cache: list[int]


@torch.inference_mode()
def run_pass(engine: Engine, batch: Batch, laps: Laps, new_tokens: int) -> Pass:
    """Answer a batch once, without sharing, caching and counting of FLOPs.

    End tokens are ignored, so every method decodes the same number of tokens. There is no synchronisation between tokens.
    """
    adapter = engine.adapter
    adapter.forget_texts()
    with uncounted(), projector_laps(adapter, laps):
        laps.restart()
        laps.begin("ttft")
        with laps.lap("vision"):
            encoded = engine.images.encode(batch.prepared)
        images = [(one, prepared.tokens) for one, prepared in zip(encoded, batch.prepared, strict=True)]
        reduced = engine.reduce(images, batch.questions, batch.seeds, [sample.evidence for sample in batch.samples])
        with laps.lap("assembly"):
            rows = _rows(engine, batch, reduced, new_tokens)
        laps.begin("prefill")
        with install(adapter, engine.site, rows):
            answers = _Answers(adapter, rows, keeps=engine.site.cached)
            answers.step()
            laps.end("prefill")
            laps.end("ttft")
            held = answers.held()
            with laps.lap("decode"):
                for _ in range(new_tokens - 1):
                    answers.step()
    return Pass(laps.seconds(), torch.stack(answers.ids, dim=1), held)


def _rows(engine: Engine, batch: Batch, reduced: Sequence[Reduced], new_tokens: int) -> Rows:
    site, images = engine.site, [[image] for image in visuals(engine.site, reduced)]
    questions = batch.questions if site.needs_words else None
    return build_rows(engine.adapter, batch.prompts, images, site.positions, [new_tokens] * len(batch), questions)


class _Answers:
    """The engine's greedy decoding without detokenisation and without synchronisation before the end."""

    def __init__(self, adapter: ModelAdapter, rows: Rows, keeps: bool) -> None:
        self.adapter, self.keeps = adapter, keeps
        self.rows = rows
        self.embeds, self.mask, self.positions, self.next = rows.embeds, rows.mask, rows.positions, rows.next[:, None]
        self.cache = self._empty()
        self.ids: list[Tensor] = []

    def _empty(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.adapter.language.config)

    def step(self) -> None:
        """Choose the next token of each row."""
        adapter = self.adapter
        hidden = adapter.language(
            inputs_embeds=self.embeds,
            attention_mask=adapter.whole_mask(self.embeds, self.mask, self.positions, self.cache, self.rows.image),
            position_ids=adapter.for_language(self.positions),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        chosen = adapter.logits(hidden[:, -1:])[:, 0].argmax(-1)
        self.ids.append(chosen)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        newest, place = adapter.embed(chosen[:, None]), self.next
        self.next = place + 1
        if self.keeps:
            self.embeds, self.positions = newest, place
        else:
            self.embeds = torch.cat([self.embeds, newest], dim=1)
            self.positions = torch.cat([self.positions, place], dim=1)
            self.cache = self._empty()

    def held(self) -> list[int]:
        """Bytes of keys and values by layer."""
        tensors = [(layer.keys, layer.values) for layer in self.cache.layers] if self.keeps else []
        return [sum(tensor.numel() * tensor.element_size() for tensor in pair) for pair in tensors]
