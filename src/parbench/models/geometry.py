"""Sizes of a model, from its configuration without weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parbench.models.loading import check_config, locate


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
    """The geometry of a ``LlavaConfig``."""
    side = config.vision_config.image_size // config.vision_config.patch_size
    return Geometry(
        side,
        side,
        config.text_config.num_hidden_layers,
        config.vision_config.num_hidden_layers,
        config.vision_config.patch_size,
        config.vision_feature_layer,
    )


def config_of(model: Mapping[str, Any]) -> Any:
    """The ``LlavaConfig`` of a ``conf/model`` mapping, from its ``geometry`` or its folder. Weights are not read.

    Raises:
        ParbenchError: There is neither.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    if geometry := model.get("geometry"):
        return LlavaConfig(
            vision_config=CLIPVisionConfig(**geometry["vision"]).to_dict(),
            text_config=LlamaConfig(**geometry["text"]).to_dict(),
            vision_feature_layer=geometry["vision_feature_layer"],
        )
    folder = locate(str(model["path"]), model.get("revision"), weights=False)
    check_config(folder)
    return LlavaConfig.from_pretrained(folder, local_files_only=True)
