"""Predicted FLOPs at a budget, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from parbench.compute.conventions import CONVENTIONS, Tokens, sizes_of
from parbench.compute.flops import costs
from parbench.compute.images import SeenImage, seen
from parbench.engine.plan import TokenPlan
from parbench.engine.sites import Site, site_of
from parbench.errors import ParbenchError
from parbench.models.configs import config_of
from parbench.models.geometry import Geometry
from parbench.reducers import Reducer
from parbench.reducers.budget import resolve
from parbench.reducers.needs import check_model
from parbench.reducers.none import Unreduced

# Tokens before the image in LLaVA-1.5's prompt.
SYSTEM = 35


@dataclass(frozen=True)
class Prompt:
    """A prompt: its length without visual tokens, and its image.

    Attributes:
        text: Number of text tokens.
        system: Number of those before the image; None: as in LLaVA-1.5, or all but one of a shorter prompt.
        image: Width and height of the image in pixels; None for :data:`parbench.compute.images.USUAL`. LLaVA-1.5 sees all images
            at one size.
        frames: Frames of that size of a video in place of the image; None for an image.
    """

    text: int
    system: int | None = None
    image: tuple[int, int] | None = None
    frames: int | None = None

    def split(self) -> tuple[int, int]:
        """The numbers of tokens after and before the image.

        Raises:
            ParbenchError: ``system`` is more than ``text``.
        """
        system = min(SYSTEM, self.text - 1) if self.system is None else self.system
        if not 0 <= system <= self.text:
            raise ParbenchError(f"system={system} is more than the text={self.text} tokens of the prompt: use 0 to {self.text}")
        return self.text - system, system


class OwnWork(Protocol):
    """Counts the overhead of a method for one image and question."""

    def __call__(self, reducer: Reducer, plan: TokenPlan, after: int, system: int) -> int:
        """FLOPs with ``after`` text tokens after and ``system`` before the image."""


def predict(
    model: Mapping[str, Any],
    reducer: Reducer | None,
    tokens: float | None,
    prompt: Prompt,
    place: str,
    own: OwnWork | None = None,
) -> dict[str, Any]:
    """FLOPs of one image and a prompt up to the first answer token.

    If merging in the vision tower depends on the image, the even distribution is assumed that calibration aims at.

    Args:
        model: A ``conf/model`` mapping.
        reducer: The method; None for any method at ``place`` without overhead.
        tokens: Kept visual tokens (the average over layers for methods inside the LLM), or a share of the image's below 1; None:
            the method's budget.
        prompt: Length of the prompt, and size of the image.
        place: ``before_projector`` or ``after_projector``; used if ``reducer`` is None.
        own: Counts the method's overhead; None omits it.

    Returns:
        model, method, tokens, text, vision, projector, reducer (None if the overhead depends on the sample; it is then not in the
        total), llm_prefill, total. If the number of visual tokens depends on the image: image (``WIDTHxHEIGHT``) and visual (the
        tokens of the image without reduction); of a video also frames.

    Raises:
        ParbenchError: The number of tokens is impossible, the processor refuses the image, or the method cannot be predicted.
    """
    found, text = seen(model, prompt.image, prompt.frames), prompt.text
    geometry = found.geometry
    if found.work and reducer is not None:
        _check_predictable(model["name"], reducer, geometry, own)
    # First, since errors in it need no transformers.
    made = plan(_named(model, found), geometry, reducer, tokens, place)
    config = config_of(model)
    cost = costs(config)
    attended, fed = ([count + text for count in counts] for counts in (made.attended, made.fed))
    skipped = _site(reducer, geometry, place).skipped_flops(config.text_config, geometry.patches + text, [geometry])
    work = 0 if made.free else None
    if work is None and own is not None and reducer is not None:
        work = own(reducer, made, *prompt.split())
    parts = {
        "vision": cost.tower([found.work]) if found.work else cost.vision([made.tower], made.whole_blocks),
        "projector": cost.project * _projected(made, found, reducer, place),
        "reducer": work,
        "llm_prefill": cost.prefill([count + text for count in made.visual], attended, fed) - skipped,
    }
    unnamed = "none" if made.tokens == geometry.patches else f"any, {place.replace('_', ' ')}"
    told: dict[str, Any] = {"image": f"{found.size[0]}x{found.size[1]}", "visual": geometry.patches} if found.size else {}
    if found.frames:
        told["frames"] = found.frames
    return {
        "model": model["name"],
        "method": reducer.name if reducer else unnamed,
        "tokens": made.tokens,
        "text": text,
        **told,
        **parts,
        "total": sum(p or 0 for p in parts.values()),
    }


def _named(model: Mapping[str, Any], found: SeenImage) -> str:
    """A model, and the image that its tokens depend on, for messages."""
    return f"{model['name']} at image={found.size[0]}x{found.size[1]}" if found.work and found.size else str(model["name"])


def _check_predictable(name: str, reducer: Reducer, geometry: Geometry, own: OwnWork | None) -> None:
    """Refuse what is known of LLaVA-1.5 alone.

    Raises:
        ParbenchError: The method acts on the vision tower, or its overhead is asked for.
    """
    if site_of(reducer, geometry).acts_in_vision:
        raise ParbenchError(
            f"method {reducer.name} changes what the vision tower computes, which is predicted for LLaVA-1.5 only: leave it out "
            f"for {name}, or set a smaller image"
        )
    if own is not None and reducer.title != "none":
        raise ParbenchError(f"own=true counts the overhead of methods on LLaVA-1.5 only: leave it out for {name}")


def _projected(made: TokenPlan, found: SeenImage, reducer: Reducer | None, place: str) -> int:
    """Tokens that leave the projector."""
    if found.work is None:
        return made.projected
    # Hugging Face's towers of these families include the projector, so methods act behind it.
    return made.tokens if reducer is None and place == "before_projector" else found.work.groups


def plan(name: str, geometry: Geometry, reducer: Reducer | None, tokens: float | None, place: str) -> TokenPlan:
    """The tokens of an image at each part of the model ``name``; see :func:`predict`.

    Raises:
        ParbenchError: The number of tokens is impossible, or neither a method nor a number is given.
    """
    if reducer is not None:
        tokens = _asked(reducer, geometry)
    if tokens is None:
        tokens = geometry.patches
    if isinstance(tokens, float) and 0 < tokens < 1:
        tokens = resolve(tokens, geometry.patches, name)
    if not isinstance(tokens, int) or isinstance(tokens, bool) or not 1 <= tokens <= geometry.patches:
        raise ParbenchError(f"tokens={tokens} is impossible for {name}: use 1 to {geometry.patches}")
    return _site(reducer, geometry, place).plan(tokens)


def _site(reducer: Reducer | None, geometry: Geometry, place: str) -> Site[Reducer]:
    """The site of a method, or of a method at ``place`` without overhead."""
    return site_of(Unreduced(name="none", place=place) if reducer is None else reducer, geometry)


def _asked(reducer: Reducer, geometry: Geometry) -> int | None:
    check_model(reducer, geometry)
    tokens = reducer.asked(geometry)
    if reducer.title == "none" and tokens not in (None, geometry.patches):
        raise ParbenchError(f"method {reducer.name} drops nothing: leave tokens={tokens} out")
    if tokens is None and reducer.adaptive and reducer.title != "none":
        raise ParbenchError(f"method {reducer.name} keeps a number of tokens that depends on the image: set tokens=64")
    return tokens


def other_counts(
    model: Mapping[str, Any], reducer: Reducer | None, row: Mapping[str, Any], prompt: Prompt, place: str
) -> dict[str, float]:
    """The prefill of a predicted row by each convention of :mod:`parbench.compute.conventions`.

    ``true`` is that of the row, by fvcore. The others depend on numbers of tokens only. They ignore masked computation, skipped
    feed-forward parts and virtual unmerging.

    Args:
        model: A ``conf/model`` mapping.
        reducer: The method of the row.
        row: The result of :func:`predict`.
        prompt: As for :func:`predict`.
        place: As for :func:`predict`.
    """
    made = plan(model["name"], seen(model, prompt.image, prompt.frames).geometry, reducer, row["tokens"], place)
    tokens = Tokens(made.visual, *prompt.split())
    counted = {name: count(sizes_of(config_of(model)), tokens) for name, count in CONVENTIONS.items()}
    return {**counted, "true": row["llm_prefill"]}
