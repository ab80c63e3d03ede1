"""Installs the hooks of a method and of the trace in the LLM, and always removes them again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.hooks.streams import stream_handles
from parbench.engine.inputs import Rows
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.models.listening import listening
from parbench.reducers import Reducer

if TYPE_CHECKING:
    from parbench.engine.sites.base import Site


@contextmanager
def install(
    adapter: LanguageAdapter, site: Site[Reducer] | None, rows: Rows, place: Callable[[], Packed] | None = None
) -> Iterator[Trace]:
    """Inside the block, the LLM runs ``rows`` with the site's hooks, and the tokens that enter each layer at prefill are traced.

    The hooks are removed afterwards, also after errors.

    Args:
        adapter: The model.
        site: The method at its site; None if nothing acts inside the LLM.
        rows: The batch.
        place: For lines that share a sequence before a method's first stage: returns their columns.
    """
    trace = Trace()
    hooks = site.hooks(adapter, rows, trace, place) if site else LlmHooks(rows)
    hooks.replay = site.replay if site else ()
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
        handles += hooks.handles() + stream_handles(adapter, hooks)
        trace.leavers.append(hooks.leave)
        # Registered last, so that it sees the final inputs of the layer.
        handles += [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in adapter.language.layers]
        with listening(hooks.listens()):
            yield trace
    finally:
        for handle in handles:
            handle.remove()
