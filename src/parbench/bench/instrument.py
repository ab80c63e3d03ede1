"""Takes a method's own time wherever it works, and the projector's."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from parbench.bench.clock import Laps
from parbench.engine.engine import Engine
from parbench.models.adapter import LlavaAdapter
from parbench.reducers import LayerReducer, Reducer

# What a class does itself: making the image smaller, pairing tokens in a vision block, making the tokens before the LLM, choosing
# at a layer inside it.
_OWN = ("shrink", "merge", "reduce", "choose")

_Kind = TypeVar("_Kind", bound=Reducer)


def timed_engine(adapter: LlavaAdapter, reducer: Reducer, laps: Laps) -> Engine:
    """An engine that shares nothing, with the method's own work taken as laps named ``selection``."""
    timed = _timed(reducer, laps)
    if isinstance(timed, LayerReducer) and (first := timed.before(adapter.geometry)):
        part = _timed(first, laps)
        timed.before = lambda _geometry: part  # type: ignore[method-assign, assignment]
    return Engine(adapter, timed, share=False)


def _timed(reducer: _Kind, laps: Laps) -> _Kind:
    # A copy: the method given goes on as it is.
    copy = dataclasses.replace(reducer)
    for name in _OWN:
        if hasattr(copy, name):
            setattr(copy, name, laps.around("selection", getattr(copy, name)))
    return copy


@contextmanager
def projector_laps(adapter: LlavaAdapter, laps: Laps) -> Iterator[None]:
    """While open, the projector's runs are laps named ``projector``."""
    projector = adapter.model.model.multi_modal_projector
    handles = [
        projector.register_forward_pre_hook(lambda *_: laps.begin("projector")),
        projector.register_forward_hook(lambda *_: laps.end("projector")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
