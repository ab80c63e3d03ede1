"""Whether the layers whose attention a method reads see whole prompts, in models with layers that see only the nearest tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from parbench.errors import ParbenchError, UnfitSample
from parbench.models.adapter import LanguageAdapter
from parbench.reducers import LayerReducer


def shortest_sight(adapter: LanguageAdapter, reducer: LayerReducer) -> tuple[int, int] | None:
    """The layer that sees the fewest tokens of those whose attention a method reads, and their number; None if each sees all."""
    seen = {layer: adapter.window(layer) for layer in _read(reducer, reducer.stages(adapter.geometry))}
    return min(((layer, window) for layer, window in seen.items() if window is not None), key=lambda one: one[1], default=None)


def check_reach(adapter: LanguageAdapter, reducer: LayerReducer, longest: int) -> None:
    """Refuse prompts longer than what a layer sees whose attention a method reads.

    Args:
        adapter: The model.
        reducer: The method.
        longest: Tokens of the longest prompt, as it enters the LLM.

    Raises:
        UnfitSample: It is longer. Its first visual tokens would be dropped unseen. The message names layers that see all, where
            the method's own field allows them.
    """
    sight = shortest_sight(adapter, reducer)
    if sight is None or longest <= sight[1]:
        return
    fields = farther_layers(adapter, reducer)
    moved = " ".join(f"method.{name}={value}" for name, value in fields.items())
    instead = f"{moved}, where all are seen" if fields else "a method that reads no attention inside the LLM"
    raise UnfitSample(
        f"a prompt of {longest} tokens is longer than the {sight[1]} that layer {sight[0]} sees, whose attention method "
        f"{reducer.name} reads: use {instead}"
    )


def farther_layers(adapter: LanguageAdapter, reducer: LayerReducer) -> dict[str, Any]:
    """The fields that move a method's stages back to the next layers where it reads attention to all tokens; empty if none do."""
    geometry, part = adapter.geometry, reducer.parts[-1] if reducer.parts else reducer
    stages: list[int] = []
    for stage in reducer.stages(geometry):
        after = max([stage, *(one + 1 for one in stages)])
        legal = (at for at in range(after, geometry.layers) if all(adapter.window(layer) is None for layer in _read(reducer, [at])))
        if (found := next(legal, None)) is None:
            return {}
        stages.append(found)
    role = "inside." if reducer.parts else ""
    # Some fields name the layer before the one where tokens are dropped.
    for name, less in ((name, less) for name in ("layer", "layers") if hasattr(part, name) for less in (0, 1)):
        value = stages[0] - less if name == "layer" else [stage - less for stage in stages]
        moved = reducer.with_fields({f"{role}{name}": value})
        try:
            moved.check(geometry.any_image)
        except ParbenchError:
            continue
        if list(moved.stages(geometry)) == stages:
            return {f"{role}{name}": value}
    return {}


def _read(reducer: LayerReducer, stages: Iterable[int]) -> list[int]:
    return [stage + offset for stage in stages for offset in reducer.reads]
