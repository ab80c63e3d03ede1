"""Puts a reducer's hooks into a model's LLM, and the ledger's, and always takes them out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from parbench.engine.hooks.layers import LayerHooks, Packed, Trace
from parbench.engine.hooks.mask import MaskHooks
from parbench.engine.hooks.unmerge import UnmergeHooks
from parbench.engine.inputs import Rows
from parbench.models.adapter import LanguageAdapter
from parbench.reducers import LayerReducer, MaskReducer, Reducer, TowerReducer


@contextmanager
def install(
    adapter: LanguageAdapter, reducer: Reducer, rows: Rows, place: Callable[[], Packed] | None = None
) -> Iterator[Trace]:
    """While open, the LLM runs ``rows`` with the reducer in it, and what enters each layer at prefill is traced.

    The hooks are gone afterwards, whatever happens inside.

    Args:
        adapter: The model.
        reducer: The method.
        rows: The batch.
        place: Of a ``LayerReducer`` whose lines run side by side before its first stage: where they are.
    """
    trace = Trace()
    depth = len(adapter.language.layers)
    inside = LayerHooks(adapter, reducer, rows, trace, place) if isinstance(reducer, LayerReducer) else None
    handles: list[Any] = []

    def record(_layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(trace.layers) == depth:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        trace.layers.append(inside.entering(hidden) if inside else hidden.shape[1] - (rows.mask == 0).sum(1))
        trace.visual.append(((inside.layout if inside else rows).image >= 0).sum(1))
        if inside and len(trace.layers) == depth:
            trace.origin = inside.origin()

    try:
        if inside:
            handles += inside.handles()
            trace.leavers.append(inside.leave)
        if isinstance(reducer, MaskReducer):
            handles += MaskHooks(adapter, reducer, rows).handles()
        if isinstance(reducer, TowerReducer) and reducer.unmerges:
            unmerging = UnmergeHooks(adapter, rows, trace)
            handles += unmerging.handles()
            trace.leavers.append(unmerging.leave)
        # Registered last, so that it sees what the layer really gets.
        handles += [layer.register_forward_pre_hook(record, with_kwargs=True) for layer in adapter.language.layers]
        yield trace
    finally:
        for handle in handles:
            handle.remove()
