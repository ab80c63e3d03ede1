"""Puts a method's hooks into a model's LLM, and those that trace, and always takes them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Rows
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.reducers import Reducer

if TYPE_CHECKING:
    from parbench.engine.sites.base import Site


@contextmanager
def install(
    adapter: LanguageAdapter, site: Site[Reducer] | None, rows: Rows, place: Callable[[], Packed] | None = None
) -> Iterator[Trace]:
    """While open, the LLM runs ``rows`` with the site's hooks in it, and what enters each layer at prefill is traced.

    The hooks are gone afterwards, whatever happens inside.

    Args:
        adapter: The model.
        site: The method at its site; None: nothing acts inside the LLM.
        rows: The batch.
        place: Of lines that run side by side before a method's first stage: where they are.
    """
    trace = Trace()
    hooks = site.hooks(adapter, rows, trace, place) if site else LlmHooks(rows)
    depth = len(adapter.language.layers)

    def record(_layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(trace.layers) == depth:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        trace.layers.append(hooks.entering(hidden))
        trace.visual.append((hooks.image >= 0).sum(1))
        if len(trace.layers) == depth:
            trace.origin = hooks.origin()

    handles: list[RemovableHandle] = []
    try:
        handles += hooks.handles()
        trace.leavers.append(hooks.leave)
        # Registered last, so that it sees what the layer really gets.
        handles += [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in adapter.language.layers]
        yield trace
    finally:
        for handle in handles:
            handle.remove()
