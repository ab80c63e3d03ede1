"""Hooks that mask attention and MLP of visual tokens in the LLM; the sequence keeps its length."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.inputs import Rows
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter
from parbench.models.geometry import Geometry
from parbench.reducers import MaskReducer


class MaskHooks(LlmHooks):
    """Runs a ``MaskReducer`` at prefill. Values that are zeroed there stay zero in the KV cache, so decoding needs no hooks.

    Masking a weight after the softmax is the same as a zero value, so the attention kernel stays unchanged.
    """

    def __init__(self, adapter: LanguageAdapter, reducer: MaskReducer, rows: Rows) -> None:
        super().__init__(rows)
        self.adapter, self.reducer = adapter, reducer
        self.prefill = False
        self.allowed: Tensor | None = None
        groups = adapter.language.layers[0].self_attn.num_key_value_groups
        if groups > 1 and any(reducer.pruned(index) for index in range(len(adapter.language.layers))):
            raise ParbenchError(
                f"method {reducer.name} prunes single heads, but the heads of this model share their values "
                "(grouped-query attention): set method.pruned_heads=[]"
            )

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        handles = []
        cut = self.reducer.unseen(self.adapter.geometry)
        for index, layer in enumerate(self.adapter.language.layers):
            attention, pruned = layer.self_attn, self.reducer.pruned(index)
            handles.append(layer.register_forward_pre_hook(partial(self.enter, index), with_kwargs=True))
            handles.append(layer.mlp.down_proj.register_forward_pre_hook(self.thin))
            if index >= cut or pruned:
                every = list(range(attention.config.num_key_value_heads))
                hide = partial(self.zero, every if index >= cut else pruned, attention.head_dim)
                handles.append(attention.v_proj.register_forward_hook(lambda _m, _a, output, hide=hide: hide(output)))
            if pruned:
                drop = partial(self.zero, pruned, attention.head_dim)
                handles.append(attention.o_proj.register_forward_pre_hook(lambda _m, args, drop=drop: (drop(args[0]),)))
        return handles

    def enter(
        self, index: int, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before each layer at prefill: replace the attention mask."""
        hidden = args[0] if args else kwargs["hidden_states"]
        if index == 0:
            self.prefill = kwargs["past_key_values"].get_seq_length() == 0
            self.allowed = self._allowed(hidden) if self.prefill else None
        return args, kwargs if self.allowed is None else {**kwargs, "attention_mask": self.allowed}

    def _allowed(self, hidden: Tensor) -> Tensor | None:
        """Additive mask [B, 1, S, S]: causal, but within an image only neighbours, including later ones."""
        if self.reducer.neighbours(self.adapter.geometry.any_image) is None:
            return None
        at = hidden.device
        image, patch, mask = self.rows.image.to(at), self.rows.patch.clamp(min=0).to(at), self.rows.mask.bool().to(at)
        causal = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool, device=at).tril()
        seen = causal[None] & mask[:, None]
        same = (image[:, :, None] == image[:, None]) & (image >= 0)[:, None]
        for size in dict.fromkeys(self.rows.sizes or [self.adapter.geometry]):
            near = self.reducer.neighbours(size)
            if near is not None:
                mine = same & self._of_size(size).to(at)[:, :, None]
                # A patch of a larger image has no place in this grid; its entries are not used.
                place = patch.clamp(max=size.patches - 1)
                seen = torch.where(mine, near.to(at)[place[:, :, None], place[:, None]], seen)
        allowed = torch.zeros(seen.shape, dtype=hidden.dtype, device=at)
        return allowed.masked_fill(~seen, torch.finfo(hidden.dtype).min)[:, None]

    def _of_size(self, size: Geometry) -> Tensor:
        """[B, S] bool: the visual tokens of images of a size."""
        image, found, sizes = self.rows.image, torch.zeros_like(self.rows.image, dtype=torch.bool), iter(self.rows.sizes)
        if not self.rows.sizes:
            return image >= 0
        for row in range(len(image)):
            for number in range(int(image[row].max()) + 1):
                if next(sizes) == size:
                    found[row] |= image[row] == number
        return found

    def zero(self, heads: list[int], width: int, values: Tensor) -> Tensor:
        """Values [B, S, heads x width] with some heads zeroed at visual tokens, at prefill."""
        if not self.prefill:
            return values
        split = values.unflatten(-1, (-1, width))
        chosen = torch.zeros(split.shape[2], dtype=torch.bool, device=values.device)
        chosen[heads] = True
        found: Tensor = split.masked_fill((self._visual(values)[..., None] & chosen)[..., None], 0.0).flatten(2)
        return found

    def thin(self, _linear: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before the down projection of the MLP: zero the neurons that visual tokens do not use."""
        if not self.prefill:
            return args
        unused = torch.arange(args[0].shape[2], device=args[0].device) >= self.reducer.neurons(args[0].shape[2])
        return (args[0].masked_fill(self._visual(args[0])[..., None] & unused, 0.0),)

    def _visual(self, values: Tensor) -> Tensor:
        """[B, S] bool: visual tokens, on the device of ``values``, since layers may be on several devices."""
        return (self.rows.image >= 0).to(values.device)
