"""FLOPs that a budget would cost, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from parbench.compute.conventions import CONVENTIONS, Tokens, sizes_of
from parbench.compute.flops import costs
from parbench.engine.plan import TokenPlan
from parbench.engine.sites import Site, site_of
from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry, config_of, geometry_of
from parbench.reducers import Reducer
from parbench.reducers.none import Unreduced

# LLaVA-1.5's prompt has so many tokens before the image.
SYSTEM = 35


class OwnWork(Protocol):
    """Counts a method's own work for one image and question."""

    def __call__(self, reducer: Reducer, plan: TokenPlan, behind: int, system: int) -> int:
        """FLOPs with so many text tokens behind and before the image."""


def predict(
    model: Mapping[str, Any],
    reducer: Reducer | None,
    tokens: int | None,
    text: int,
    place: str,
    own: OwnWork | None = None,
    system: int | None = None,
) -> dict[str, Any]:
    """FLOPs of one image and ``text`` prompt tokens up to the first answer token.

    Where images decide how much each vision block merges, the even shares that calibration aims at are assumed.

    Args:
        model: A ``conf/model`` mapping.
        reducer: The method; None for any that acts at ``place`` and costs nothing itself.
        tokens: Visual tokens that are left (the average over layers for methods inside the LLM); None: the method's own budget.
        text: Prompt tokens beside the visual ones.
        place: ``before_projector`` or ``after_projector``, for reducer None.
        own: Counts the method's own work; None leaves it out.
        system: Those of the prompt tokens that come before the image; None: LLaVA-1.5's, or all but one of a shorter prompt.

    Returns:
        model, method, tokens, text, vision, projector, reducer (None where a method's own work depends on the sample and is
        left out of the total), llm_prefill, total.

    Raises:
        ParbenchError: The number of tokens is impossible, or no method and no number is given.
    """
    config = config_of(model)
    cost, geometry = costs(config), geometry_of(config)
    made = plan(model["name"], geometry, reducer, tokens, place)
    attended = [count + text for count in made.attended]
    skipped = _site(reducer, geometry, place).skipped_flops(config.text_config, geometry.patches + text, 1)
    work = 0 if made.free else None
    if work is None and own is not None and reducer is not None:
        work = own(reducer, made, *split(text, system))
    parts = {
        "vision": cost.vision([made.tower]),
        "projector": cost.project * made.projected,
        "reducer": work,
        "llm_prefill": cost.prefill([count + text for count in made.visual], attended) - skipped,
    }
    unnamed = "none" if made.tokens == geometry.patches else f"any, {place.replace('_', ' ')}"
    return {
        "model": model["name"],
        "method": reducer.name if reducer else unnamed,
        "tokens": made.tokens,
        "text": text,
        **parts,
        "total": sum(p or 0 for p in parts.values()),
    }


def plan(name: str, geometry: Geometry, reducer: Reducer | None, tokens: int | None, place: str) -> TokenPlan:
    """Where how many tokens of an image would be; see :func:`predict`, for the model ``name``.

    Raises:
        ParbenchError: The number of tokens is impossible, or no method and no number is given.
    """
    if reducer is not None:
        tokens = _asked(reducer, geometry)
    if tokens is None:
        tokens = geometry.patches
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= geometry.patches:
        raise ParbenchError(f"tokens={tokens} is impossible for {name}: use 1 to {geometry.patches}")
    return _site(reducer, geometry, place).plan(tokens)


def _site(reducer: Reducer | None, geometry: Geometry, place: str) -> Site[Reducer]:
    """The site of a method, or of any method at ``place`` that costs nothing itself."""
    return site_of(Unreduced(name="none", place=place) if reducer is None else reducer, geometry)


def _asked(reducer: Reducer, geometry: Geometry) -> int | None:
    reducer.check(geometry)
    tokens = reducer.asked(geometry)
    if reducer.title == "none" and tokens not in (None, geometry.patches):
        raise ParbenchError(f"method {reducer.name} drops nothing: leave tokens={tokens} out")
    if tokens is None and reducer.adaptive and reducer.title != "none":
        raise ParbenchError(f"method {reducer.name} decides by the image how many tokens stay: give tokens=64")
    return tokens


def split(text: int, system: int | None = None) -> tuple[int, int]:
    """Text tokens behind the image and before it, of so many.

    Raises:
        ParbenchError: There are fewer than shall come before it.
    """
    if system is None:
        system = min(SYSTEM, text - 1)
    if not 0 <= system <= text:
        raise ParbenchError(f"system={system} is more than all text={text} tokens of the prompt: use 0 to {text}")
    return text - system, system


def other_counts(
    model: Mapping[str, Any], reducer: Reducer | None, row: Mapping[str, Any], place: str, system: int | None = None
) -> dict[str, float]:
    """The prefill of a predicted row by each convention of :mod:`parbench.compute.conventions`.

    ``true`` is the row's own, by fvcore. The others know numbers of tokens alone: what a mask hides, and attention that has
    every patch again, they do not see.

    Args:
        model: A ``conf/model`` mapping.
        reducer: The row's method.
        row: What :func:`predict` gave for it.
        place: As given to it.
        system: As given to it.
    """
    config = config_of(model)
    made = plan(model["name"], geometry_of(config), reducer, row["tokens"], place)
    tokens = Tokens(made.visual, *split(row["text"], system))
    counted = {name: count(sizes_of(config), tokens) for name, count in CONVENTIONS.items()}
    return {**counted, "true": row["llm_prefill"]}
