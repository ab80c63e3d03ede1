"""Hooks that add the inner features of the vision tower behind the first layers of the LLM (DeepStack in Qwen3-VL)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks, extended
from parbench.models.adapter import LanguageAdapter


def stream_handles(adapter: LanguageAdapter, hooks: LlmHooks) -> list[RemovableHandle]:
    """Register hooks that add ``hooks.streams`` at prefill, whatever tokens a method has left at a layer by then.

    Hugging Face adds them inside the LLM, to all visual tokens, which fails once some are dropped before that layer.
    """
    if hooks.rows.streams is None:
        return []
    layers = adapter.language.layers
    prefill = False

    def begin(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal prefill
        prefill = kwargs["past_key_values"].get_seq_length() == 0
        if prefill:
            hidden = args[0] if args else kwargs["hidden_states"]
            hooks.streams = extended(hooks.rows.streams, hidden.shape[1])

    def add(index: int, _layer: nn.Module, _args: Any, output: Any) -> Any:
        if not prefill or hooks.streams is None:
            return None
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        hidden = hidden + hooks.streams[index].to(hidden.device)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handles = [layers[0].register_forward_pre_hook(begin, with_kwargs=True)]
    return handles + [layers[index].register_forward_hook(partial(add, index)) for index in range(len(hooks.rows.streams))]
