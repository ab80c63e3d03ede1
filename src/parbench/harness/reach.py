"""Refuses, before the first question, prompts that layers do not see whose attention a method reads."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import cast

from parbench.engine.engine import Engine
from parbench.engine.pictures import prompt_ids
from parbench.engine.reach import check_reach, shortest_sight
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.largest import tokens_of
from parbench.models.adapter import ModelAdapter
from parbench.models.families import ImageTokens
from parbench.progress import working
from parbench.reducers import LayerReducer


def check_prompts(engine: Engine, samples: Sequence[Sample]) -> None:
    """Check that the layers whose attention a method reads see the whole prompt of each sample.

    Nothing is read for models without layers that see only the nearest tokens. Later turns of conversations, whose prompts hold
    answers that are not given yet, are checked when they run, and images that cannot be read fail then.

    Raises:
        ParbenchError: A prompt is too long; the message says what would do.
    """
    adapter = engine.adapter
    if engine.reducer.site != "layers":
        return
    reducer = cast("LayerReducer", engine.reducer)
    if shortest_sight(adapter, reducer) is None:
        return
    with working("measuring prompts"):
        longest, name = max(_lengths(adapter, reducer, samples), default=(0, ""))
    try:
        check_reach(adapter, reducer, longest)
    except UnfitSample as error:
        raise ParbenchError(f"{name}: {error}") from error


def _lengths(adapter: ModelAdapter, reducer: LayerReducer, samples: Sequence[Sample]) -> list[tuple[int, str]]:
    """Tokens that enter the LLM, and the id, of each sample that can be measured."""
    found, known = [], {}
    for sample in samples:
        if sample.turn > 1:
            continue
        with contextlib.suppress(UnfitSample):
            if sample.group not in known:
                known[sample.group] = tokens_of(adapter.family, sample.load())
            tokens = known[sample.group]
            text = len(prompt_ids(adapter, sample, tokens)) - sum(len(one.runs) for one in tokens)
            found.append((text + sum(_entering(adapter, reducer, one) for one in tokens), sample.id))
    return found


def _entering(adapter: ModelAdapter, reducer: LayerReducer, tokens: ImageTokens) -> int:
    """Visual tokens and separators of an image that enter the LLM."""
    geometry = adapter.geometry.of_tokens(tokens)
    first = reducer.entering(geometry)
    return len(tokens.source) if first is None else first.count(geometry)
