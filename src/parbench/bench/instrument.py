"""Timing of method overhead at every site, and of the projector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from parbench.bench.clock import Laps
from parbench.engine.engine import Engine
from parbench.models.adapter import ModelAdapter
from parbench.reducers import Reducer


def timed_engine(adapter: ModelAdapter, reducer: Reducer, laps: Laps) -> Engine:
    """An engine that shares nothing, with method overhead timed as laps named ``selection``."""
    engine = Engine(adapter, reducer, share=False)
    engine.act_at(engine.site.wrapped(partial(laps.around, "selection")))
    return engine


@contextmanager
def projector_laps(adapter: ModelAdapter, laps: Laps) -> Iterator[None]:
    """Time the projector as laps named ``projector``, inside the block, where it runs apart from the vision tower."""
    if "projector" not in adapter.family.offers:
        yield
        return
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
