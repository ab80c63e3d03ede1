"""Hooks with which some visual tokens skip the MLP of every LLM layer, and leave the KV cache after prefill."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.inputs import Rows
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.ops.selection import compact
from parbench.reducers import FeedForwardReducer


class FeedForwardHooks(LlmHooks):
    """Runs a ``FeedForwardReducer`` inside the LLM.

    At prefill the MLP of a layer gets only the tokens that do not skip it, and its output is 0 for the others, which then keep the
    value of the residual stream. After prefill, the keys and values of the skipped tokens are removed from the cache, and the rows
    are padded on the left again. Without skipped tokens nothing is hooked.
    """

    def __init__(self, adapter: LanguageAdapter, reducer: FeedForwardReducer, rows: Rows, trace: Trace) -> None:
        super().__init__(rows)
        self.adapter, self.trace = adapter, trace
        self.skipped = skipped_columns(reducer, adapter, rows)
        # The columns that stay in the cache, [B, S'], and which of them are tokens.
        self.kept, counts = compact(~self.skipped & rows.mask.bool())
        place = torch.arange(self.kept.shape[1], device=rows.mask.device)
        # Padded on the left.
        self.kept = torch.stack([row.roll(-int(count)) for row, count in zip(self.kept, counts, strict=True)])
        self.there = (place >= self.kept.shape[1] - counts[:, None]).to(rows.mask.dtype)
        # The tokens that run, of all rows side by side.
        self.running = (~self.skipped).flatten().nonzero().flatten()
        self.counts = counts
        self.prefill = False

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        if not bool(self.skipped.any()):
            return []
        language = self.adapter.language
        handles = [
            language.register_forward_pre_hook(self.begin, with_kwargs=True),
            language.register_forward_hook(self.end, with_kwargs=True),
        ]
        for layer in language.layers:
            handles.append(layer.mlp.register_forward_pre_hook(self.take))
            handles.append(layer.mlp.register_forward_hook(self.put_back))
        return handles

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        self.kept, self.there = self.kept[stay], self.there[stay]

    def begin(self, _language: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before the LLM: at a decoding step, leave the skipped tokens out of the attention mask."""
        self.prefill = kwargs["past_key_values"].get_seq_length() == 0
        if self.prefill:
            return None
        later = kwargs["attention_mask"][:, self.skipped.shape[1] :]
        return args, {**kwargs, "attention_mask": torch.cat([self.there.to(later.dtype), later], dim=1)}

    def end(self, _language: Any, _args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        """After the LLM: at prefill, remove the skipped tokens from the cache."""
        if not self.prefill:
            return
        for layer in kwargs["past_key_values"].layers:
            # The layers may be on several devices.
            index = self.kept.to(layer.keys.device)[:, None, :, None]
            layer.keys, layer.values = (
                values.gather(2, index.expand(-1, values.shape[1], -1, values.shape[3])) for values in (layer.keys, layer.values)
            )

    def take(self, _mlp: Any, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before the MLP of a layer: pass it only the tokens that do not skip it, [1, M, d]."""
        if not self.prefill:
            return None
        if len(self.trace.fed) < len(self.adapter.language.layers):
            self.trace.fed.append(self.counts)
        return (args[0].flatten(0, 1)[self.running.to(args[0].device)][None], *args[1:])

    def put_back(self, _mlp: Any, _args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        """After the MLP of a layer: its output [B, S, d], 0 for the tokens that skipped it."""
        if not self.prefill:
            return None
        whole = output.new_zeros(self.skipped.numel(), output.shape[2])
        return whole.index_copy(0, self.running.to(output.device), output[0]).view(*self.skipped.shape, -1)


def skipped_columns(reducer: FeedForwardReducer, adapter: LanguageAdapter, rows: Rows) -> Tensor:
    """[B, S] bool: the visual tokens of rows that skip the feed-forward part."""
    found = torch.zeros_like(rows.image, dtype=torch.bool)
    sizes = iter(rows.sizes)
    for row, image in enumerate(rows.image):
        for number in range(int(image.max()) + 1):
            columns = (image == number).nonzero().flatten()
            found[row, columns] = reducer.skips(next(sizes, adapter.geometry)).to(found.device)
    return found
