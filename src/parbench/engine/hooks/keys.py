"""Hooks with which each LLM layer sees the keys and values of some visual tokens only."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.inputs import Rows
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.counting import own_flops
from parbench.models.fingerprints import NO_WEIGHTS
from parbench.ops.selection import compact
from parbench.reducers import KeyReducer, Provenance
from parbench.reducers.layer_probes import Layout
from parbench.reducers.sites.keys import KeyView

# Attention kernels that take any mask.
_KERNELS = ("sdpa", "eager")


def without_keys(mask: Tensor | None, visible: Tensor, hidden: Tensor) -> Tensor:
    """An attention mask in which some keys are seen by nothing. A query to which nothing is left sees itself.

    Args:
        mask: [B or 1, 1, S, S], bool or added to the logits; None: causal.
        visible: [B, S] bool, the keys that stay.
        hidden: [B, S, d] the layer's input, whose dtype an added mask has.

    Returns:
        [B, 1, S, S], bool unless ``mask`` is an added one.
    """
    itself = torch.eye(hidden.shape[1], dtype=torch.bool, device=hidden.device)
    if mask is None:
        seen = torch.ones_like(itself).tril()[None, None]
    else:
        seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    seen = seen & visible.to(seen.device)[:, None, None]
    seen = seen | (~seen.any(-1, keepdim=True) & itself)
    if mask is None or mask.dtype == torch.bool:
        return seen
    return torch.zeros(seen.shape, dtype=mask.dtype, device=seen.device).masked_fill(~seen, torch.finfo(mask.dtype).min)


class KeyHooks(LlmHooks):
    """Runs a ``KeyReducer`` inside the LLM.

    At prefill, the method chooses before the attention of each layer, whose mask then hides the other visual tokens. After prefill
    each layer's keys and values of these are removed from the cache, and the rows are padded on the left again. All layers see
    equally many tokens of a row, so one mask serves all of them while decoding. If everything is seen, nothing is hooked.
    """

    def __init__(self, adapter: LanguageAdapter, reducer: KeyReducer, rows: Rows, trace: Trace) -> None:
        super().__init__(rows)
        self.adapter, self.reducer, self.trace = adapter, reducer, trace
        self.layout = Layout.start(rows.mask, rows.positions, rows.image, rows.patch)
        self.columns, self.valid = self.layout.visual
        tokens = self.valid.sum(1).tolist()
        sizes = rows.sizes or (adapter.geometry,) * len(tokens)
        each = [reducer.entries(size, count) for size, count in zip(sizes, tokens, strict=True)]
        self.counts = torch.tensor(each, dtype=torch.long, device=rows.mask.device)
        self.hides = each != tokens
        self.fingerprint = adapter.fingerprint if isinstance(adapter, ModelAdapter) else NO_WEIGHTS
        # What each layer sees: [E, N] of the images, [B, S] of the rows.
        self.chosen: list[Tensor] = []
        self.visible: list[Tensor] = []
        self.there = rows.mask
        self.prefill = False
        kernel = adapter.language.config._attn_implementation
        if self.hides and kernel not in _KERNELS:
            raise ParbenchError(
                f"model.attention={kernel} cannot hide keys by layer, as method {reducer.name} does: use model.attention=sdpa or "
                "eager"
            )

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        if not self.hides:
            return []
        language = self.adapter.language
        handles = [
            language.register_forward_pre_hook(self.begin, with_kwargs=True),
            language.register_forward_hook(self.end, with_kwargs=True),
        ]
        for index, layer in enumerate(language.layers):
            # In the count of method overhead, layers that are not needed are left out.
            if hasattr(layer, "self_attn"):
                handles.append(layer.self_attn.register_forward_pre_hook(partial(self.look, index), with_kwargs=True))
        return handles

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        self.there = self.there[stay]

    def begin(self, _language: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before the LLM: at a decoding step, leave the removed keys out of the attention mask."""
        self.prefill = kwargs["past_key_values"].get_seq_length() == 0
        if self.prefill:
            self.chosen, self.visible = [], []
            return None
        later = kwargs["attention_mask"][:, self.rows.mask.shape[1] :]
        return args, {**kwargs, "attention_mask": torch.cat([self.there.to(later.dtype), later], dim=1)}

    def look(
        self, index: int, _attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before the attention of a layer at prefill: let the method choose, and hide what it does not choose."""
        if not self.prefill:
            return None
        hidden = args[0] if args else kwargs["hidden_states"]
        row, home = self.layout.row[:, None], self.rows.mask.device
        view = KeyView(
            index,
            hidden.to(home)[row, self.columns],
            self.valid,
            self.counts,
            self.adapter.geometry,
            self.rows.seeds,
            self.fingerprint,
        )
        with own_flops() as counted:
            chosen = self.reducer.chosen(view)
        self.trace.flops += counted()
        visible = self.rows.mask.bool() & (self.rows.image < 0)
        image, place = chosen.nonzero(as_tuple=True)
        visible[self.layout.row[image], self.columns[image, place]] = True
        self.chosen.append(chosen)
        self.visible.append(visible)
        if len(self.trace.seen) < len(self.adapter.language.layers):
            self.trace.seen.append((visible & (self.rows.image >= 0)).sum(1))
        return args, {**kwargs, "attention_mask": without_keys(kwargs["attention_mask"], visible, hidden)}

    def end(self, _language: Any, _args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        """After the LLM: at prefill, remove unseen keys and values from the cache of each layer."""
        if not self.prefill:
            return
        for layer, visible in zip(kwargs["past_key_values"].layers, self.visible, strict=False):
            index, counts = compact(visible)
            # Padded on the left.
            index = torch.stack([one.roll(-int(count)) for one, count in zip(index, counts, strict=True)])
            place = torch.arange(index.shape[1], device=index.device)
            self.there = (place >= index.shape[1] - counts[:, None]).to(self.rows.mask.dtype)
            # The layers may be on several devices.
            index = index.to(layer.keys.device)[:, None, :, None]
            layer.keys, layer.values = (
                values.gather(2, index.expand(-1, values.shape[1], -1, values.shape[3])) for values in (layer.keys, layer.values)
            )
        self.trace.left = self.there
        self.trace.origin = self._seen_somewhere()

    def _seen_somewhere(self) -> Provenance:
        """The tokens of each image that at least one layer sees."""
        seen = torch.stack(self.chosen).any(0)
        image, place = seen.nonzero(as_tuple=True)
        token = (seen.cumsum(1) - 1)[image, place]
        return Provenance(image, token, place, torch.ones(len(place), dtype=torch.float64, device=place.device))
