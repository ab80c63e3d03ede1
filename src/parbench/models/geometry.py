"""Sizes of a model, from its configuration without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parbench.errors import ParbenchError


@dataclass(frozen=True)
class Geometry:
    """The sizes of a model that determine which budgets a method can deliver.

    Attributes:
        rows: Rows of the patch grid.
        columns: Columns of the patch grid.
        layers: LLM layers.
        blocks: Vision blocks.
        patch: Side of a patch in pixels.
        feature: Index of the tower's hidden state that LLaVA reads (0: the embeddings; negative counts from the end).
    """

    rows: int
    columns: int
    layers: int
    blocks: int
    patch: int
    feature: int = -2

    @property
    def patches(self) -> int:
        """Visual tokens of an image without reduction."""
        return self.rows * self.columns

    @property
    def read(self) -> int:
        """Number of vision blocks up to the hidden state that LLaVA reads."""
        return self.feature % (self.blocks + 1)


def geometry_of(config: Any) -> Geometry:
    """The geometry of a ``LlavaConfig``.

    Raises:
        ParbenchError: The configuration is another family's.
    """
    if config.model_type != "llava":
        raise ParbenchError(
            f"models of type {config.model_type} can be loaded, but not reduced yet: use LLaVA-1.5, such as model=llava-1.5-7b"
        )
    side = config.vision_config.image_size // config.vision_config.patch_size
    return Geometry(
        side,
        side,
        config.text_config.num_hidden_layers,
        config.vision_config.num_hidden_layers,
        config.vision_config.patch_size,
        config.vision_feature_layer,
    )
