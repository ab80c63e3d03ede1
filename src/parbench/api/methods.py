"""Methods by name, with the defaults of their YAML, prepared for a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parbench.api.models import Known, known_of
from parbench.config.building import reducer_of
from parbench.config.classes import class_of
from parbench.config.plain import option
from parbench.errors import ParbenchError, unknown
from parbench.reducers import Reducer
from parbench.reducers.base import OF_BUDGET
from parbench.reducers.budget import check_budget
from parbench.reducers.calibration import LOCAL, SHIPPED, Subject, file_name, first_serving, found_for
from parbench.reducers.needs import check_model

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration

# The budget that stands for a method's own rule.
OWN = "own"


def method(
    name: str,
    *,
    budget: float | str | None = None,
    model: LlavaForConditionalGeneration | str | None = None,
    clip: str | None = None,
    **fields: Any,
) -> Reducer:
    """A method with the defaults of its YAML in ``conf/method``.

    Args:
        name: One of ``parbench list methods``, or two of them as ``a+b``: a acts before the LLM, b inside it.
        budget: Visual tokens to keep per image: an integer, a ratio between 0 and 1, or ``own`` for the method's own rule; None
            for the YAML's budget.
        model: The model, loaded or by name. The budget is checked against it, a calibrated threshold is filled in, and
            model-specific defaults are applied. None leaves this to :func:`parbench.reduce`.
        clip: As for :func:`parbench.reduce`.
        fields: Hyperparameters of the method that override those in the YAML; for a composed one, dictionaries ``before`` and
            ``inside``.

    Raises:
        ParbenchError: A name or field is unknown, a value is invalid, the budget is impossible on the model, or it needs a
            threshold that is not calibrated for this model.
    """
    known = None if model is None else known_of(model, clip)
    settings = option("method", name, model=known.settings if known else {})
    settings = _changed(settings, fields, name)
    if budget is not None:
        settings["budget"] = budget_of(budget)
    elif isinstance(inside := settings.get("inside"), Mapping) and inside.get("budget") is not None:
        # The same average over the layers.
        settings["budget"] = None
    check_budget(settings.get("budget"))
    made = reducer_of(settings)
    return made if known is None else ready(made, known)


def _changed(settings: Mapping[str, Any], fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Settings of a method with other fields; those of a part of a composed method are given as a dictionary."""
    kind = class_of(settings.get("_target_"), name)
    allowed = [field.name for field in dataclasses.fields(kind) if field.init and field.name not in ("name", "budget", *OF_BUDGET)]
    found = dict(settings)
    for key, value in fields.items():
        if key not in allowed:
            raise unknown(f"field of method {name}", key, allowed)
        before = found.get(key)
        found[key] = {**before, **value} if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return found


def budget_of(value: Any) -> Any:
    """A budget in the form of a method's field: None for the method's own rule, numpy numbers as Python numbers."""
    if isinstance(value, str) and value == OWN:
        return None
    return value.item() if hasattr(value, "item") else value


def ready(method: Reducer, known: Known) -> Reducer:
    """A method prepared for a model: named, with its budget checked and in tokens, and its threshold filled in.

    Raises:
        ParbenchError: The method cannot run on the model; the message says what is possible.
    """
    if not isinstance(method, Reducer):
        raise ParbenchError(
            f"{method!r} is not a method: use parbench.method('par', budget=64), or an instance of your own class, such as "
            "MyMethod(budget=64)"
        )
    if not hasattr(type(method), "title"):
        raise ParbenchError(
            f"class {type(method).__name__} has no title, which tables and messages need: write title = '{type(method).__name__}' "
            "in it"
        )
    if not method.name:
        method = dataclasses.replace(method, name=type(method).__name__.lower())
    check_model(method, known.geometry)
    method = method.in_tokens(known.geometry).for_model(known.name, lambda: known.fingerprint, known.geometry)
    if method.needs_clip and not known.clip:
        raise ParbenchError(
            f"method {method.name} compares text with patches in CLIP's space, and no CLIP text tower is known for {known.name}: "
            "give clip=, folder or hub name of the CLIP whose vision tower the model has, such as openai/clip-vit-large-patch14-336"
        )
    return method if method.open_threshold is None else _with_threshold(method, known)


def _with_threshold(method: Reducer, known: Known) -> Reducer:
    """The method with a calibrated threshold, found by the model's name or else by its weights."""
    subject = Subject(known.name, known.fingerprint, known.geometry, known.clip_fingerprint if method.needs_clip else None)
    named = [folder / file_name(known.name, method.name) for folder in (LOCAL, SHIPPED)]
    try:
        return first_serving([*found_for(subject.weights, method.name), *named], method, subject)
    except ParbenchError as error:
        why = str(error).partition(": run: ")[0]
        raise ParbenchError(
            f"{why}: {_calibrate(method, known)}, or give parbench.method(..., {method.open_threshold}=...)"
        ) from error


def _calibrate(method: Reducer, known: Known) -> str:
    """The command that calibrates the threshold, for an error message."""
    name, adapter = known.name, {}
    if known.lora is not None:
        name, adapter = known.lora.unnamed(name), {"model.adapter": known.lora.path}
    words: dict[str, Any] = {"model": name}
    if not known.settings:
        folder = known.folder or "FOLDER"
        words = {"model": "llava-1.5-7b", "model.name": name if known.folder else "NAME", "model.path": folder}
        words |= {
            "model.clip": known.clip.path if known.clip else "null",
            "model.clip_revision": "null",
            "model.prompt": "template",
        }
    line = " ".join(f"{key}={value}" for key, value in {**words, **adapter, "method": method.name, "target": method.budget}.items())
    saved = "" if known.settings or known.folder else "save model and processor in a FOLDER and "
    return f"{saved}run: parbench calibrate {line}"
