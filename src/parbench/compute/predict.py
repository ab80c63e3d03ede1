"""FLOPs that a budget would cost, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parbench.compute.flops import config_of, costs
from parbench.errors import ParbenchError
from parbench.models.adapter import geometry_of
from parbench.reducers.base import LayerReducer, MaskReducer, PixelReducer, Reducer, TokenReducer, TowerReducer


def predict(
    model: Mapping[str, Any], reducer: Reducer | None, tokens: int | None, text: int, place: str
) -> dict[str, Any]:
    """FLOPs of one image and ``text`` prompt tokens up to the first answer token.

    Where images decide how much each vision block merges, the even shares that calibration aims at are assumed.

    Args:
        model: A ``conf/model`` mapping.
        reducer: The method; None for any that acts at ``place`` and costs nothing itself.
        tokens: Visual tokens that are left (the average over layers for methods inside the LLM); None: the method's own budget.
        text: Prompt tokens beside the visual ones.
        place: ``before_projector`` or ``after_projector``, for reducer None.

    Returns:
        model, method, tokens, text, vision, projector, reducer (None where a method's own work depends on the sample and is
        left out of the total), llm_prefill, total.

    Raises:
        ParbenchError: The number of tokens is impossible, or no method and no number is given.
    """
    config = config_of(model)
    cost, geometry = costs(config), geometry_of(config)
    if reducer is not None:
        reducer.check(geometry)
        tokens = reducer.asked(geometry)
    if tokens is None and reducer is not None and reducer.adaptive and reducer.title != "none":
        raise ParbenchError(f"method {reducer.name} decides by the image how many tokens stay: give tokens=64")
    if tokens is None:
        tokens = geometry.patches
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= geometry.patches:
        raise ParbenchError(f"tokens={tokens} is impossible for {model['name']}: use 1 to {geometry.patches}")
    before = place == "before_projector"
    tower = [geometry.patches + 1] * (geometry.blocks + 1)
    work: int | None = 0
    if isinstance(reducer, TowerReducer):
        merged = reducer.merges(geometry)
        tower = [geometry.patches + 1 - sum(merged[:block]) for block in range(geometry.blocks + 1)]
        tokens, before, work = tower[-1] - 1, True, None
    layers = [tokens + text] * geometry.layers
    attended: list[int] = []
    if isinstance(reducer, TowerReducer) and reducer.unmerges:
        attended = [geometry.patches + text] * geometry.layers
    if isinstance(reducer, LayerReducer):
        visual = reducer.by_layer(geometry)
        if reducer.budget is None:
            tokens = round(sum(visual) / geometry.layers)
        layers = [count + text for count in visual]
        outside = reducer.before(geometry)
        before = outside is not None and outside.place == "before_projector"
        work = 0 if reducer.free else None
    elif isinstance(reducer, PixelReducer):
        tower = [tokens + 1] * (geometry.blocks + 1)
    elif isinstance(reducer, TokenReducer):
        before = reducer.place == "before_projector"
        work = 0 if reducer.free else None
    skipped = 0
    if isinstance(reducer, MaskReducer):
        skipped = reducer.skipped(config.text_config, geometry, geometry.patches + text, 1)
    parts = {
        "vision": cost.vision([tower]),
        "projector": cost.project * (tokens if before else tower[-1] - 1),
        "reducer": work,
        "llm_prefill": cost.prefill(layers, attended) - skipped,
    }
    name = reducer.name if reducer else "none" if tokens == geometry.patches else f"any, {place.replace('_', ' ')}"
    return {
        "model": model["name"],
        "method": name,
        "tokens": tokens,
        "text": text,
        **parts,
        "total": sum(p or 0 for p in parts.values()),
    }
