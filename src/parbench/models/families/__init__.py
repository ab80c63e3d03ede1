"""Families of models, found by the ``model_type`` of their configuration."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.families.base import Family, ImageTokens, Prepared
from parbench.models.families.gemma import Gemma3
from parbench.models.families.generic import Generic
from parbench.models.families.idefics3 import Idefics3
from parbench.models.families.internvl import InternVL
from parbench.models.families.llava import Llava
from parbench.models.families.llava_next import LlavaNext, LlavaNextVideo
from parbench.models.families.llava_onevision import LlavaOneVision
from parbench.models.families.qwen2_5_vl import Qwen25VL
from parbench.models.families.qwen2_vl import Qwen2VL
from parbench.models.families.qwen3_vl import Qwen3VL

_log = logging.getLogger(__name__)

FAMILIES: tuple[type[Family], ...] = (
    Llava,
    LlavaNext,
    LlavaNextVideo,
    LlavaOneVision,
    Qwen2VL,
    Qwen25VL,
    Qwen3VL,
    InternVL,
    Idefics3,
    Gemma3,
)


def family_type(model_type: str) -> type[Family] | None:
    """The family of a ``model_type``; None if it is not one of those that parbench knows."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)


def without_weights(config: Any, processor: Any) -> Family | None:
    """The family of a model that is not loaded: what an image or a video becomes in a prompt; None if parbench does not know it."""
    found = family_type(config.model_type)
    return None if found is None else found(SimpleNamespace(config=config), processor)


def family_of(model: Any, processor: Any) -> Family:
    """The family of a loaded model.

    Raises:
        ParbenchError: The model is of no known family and lacks what the core relies on.
    """
    found = family_type(model.config.model_type)
    if found is not None:
        return found(model, processor)
    if why := Generic.lacks(model, processor):
        raise ParbenchError(f"models of type {model.config.model_type} are not supported: {why}")
    _log.warning(
        f"models of type {model.config.model_type} are not known to parbench: opened as generic, whose tokens have no places in "
        "the image, and whose tower is not read"
    )
    return Generic(model, processor)


__all__ = ["FAMILIES", "Family", "Generic", "ImageTokens", "Prepared", "family_of", "family_type", "without_weights"]
