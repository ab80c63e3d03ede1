"""A family that parbench does not know: served by the core where Hugging Face's model has its mechanics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.families.base import Family, ImageTokens
from parbench.models.source import Part, Source

_NEEDS = ("get_image_features", "get_placeholder_mask")


class Generic(Family):
    """Visual tokens without places, in a model with one-dimensional positions whose prompt its processor expands."""

    model_types = ()
    offers = frozenset({"causal"})

    @staticmethod
    def lacks(model: Any, processor: Any) -> str | None:
        """What the core relies on and a model lacks; None if nothing."""
        inner = getattr(model, "model", None)
        missing = [name for name in _NEEDS if not hasattr(inner, name)]
        if missing:
            return f"the model has no {' and no '.join(missing)}"
        if hasattr(inner, "get_rope_index"):
            return "its positions have several axes, in a way that parbench does not know"
        if not any(hasattr(inner, name) for name in ("language_model", "text_model")):
            return "its language model is not found"
        if not hasattr(processor, "replace_image_token") or getattr(processor, "image_token", None) is None:
            return "its processor does not say how many tokens an image has"
        return None

    @property
    def language(self) -> Any:
        """The language model without its head."""
        inner = self.model.model
        return inner.language_model if hasattr(inner, "language_model") else inner.text_model

    @property
    def tower(self) -> Any:
        """The model that holds the vision tower."""
        return self.model.model

    @property
    def blocks(self) -> Sequence[Any]:
        """None: the tower is not read."""
        return []

    def work(self, _tensors: Mapping[str, Tensor]) -> None:
        """None: not known."""

    def tokens(self, size: tuple[int, int], text: str, _tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image, each of which may show any part of it."""
        short, runs = self.collapsed(text)
        count = sum(runs)
        if not count:
            raise ParbenchError(
                f"the processor of {self.model.config.model_type} writes no token {self.image_token_id} for an image"
            )
        whole = torch.tensor([[0.0, 0.0, *size]], dtype=torch.float64).expand(count, -1)
        nothing = torch.zeros(count, dtype=torch.long)
        source = Source(size, whole, nothing, torch.arange(count), nothing.bool(), (Part("image", 0, 0, (0, 0, *size)),))
        return ImageTokens(short, runs, source, torch.zeros(count, 1, dtype=torch.long), 0)
