"""A model of any family without weights, on the meta device: its modules have shapes, and nothing is computed or stored."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from parbench.models.construction import building
from parbench.models.silence import quiet_transformers

# Names that Hugging Face gives to the modules between a vision tower and the LLM. Qwen's are inside the tower.
_CONNECTORS = ("multi_modal_projector", "connector")
_MERGERS = ("merger", "deepstack_merger_list")
# Parameters of a tower's embeddings that are a CLS token.
_CLS = ("class_embedding", "cls_token")


class Skeleton:
    """The parts of a model whose FLOPs are counted.

    Attributes:
        config: The model's configuration.
        tower: The vision tower.
        language: The LLM without its head.
    """

    def __init__(self, config: Any) -> None:
        from transformers import AutoModelForImageTextToText
        from transformers.initialization import no_init_weights

        with torch.device("meta"), no_init_weights():
            model: Any = AutoModelForImageTextToText.from_config(config, attn_implementation="sdpa").eval()
        self.config = model.config
        self.tower: nn.Module = model.model.get_encoder("image")
        self.language: Any = model.model.get_decoder()
        self._model = model.model

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the parameters of vision tower, connector and LLM without its head, by Hugging Face's names."""
        return {f"model.{name}": tuple(parameter.shape) for name, parameter in self._model.named_parameters()}

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the vision tower: the longest list of modules in it."""
        lists: list[Any] = [module for module in self.tower.modules() if isinstance(module, nn.ModuleList)]
        found: Sequence[nn.Module] = max(lists, key=len)
        return found

    @property
    def width(self) -> int:
        """Width of a vision block: that of its first norm."""
        return next(len(parameter) for parameter in self.blocks[0].parameters() if parameter.ndim == 1)

    @property
    def heads(self) -> int:
        """Attention heads of a vision block."""
        vision = self.config.vision_config
        return int(getattr(vision, "num_heads", None) or vision.num_attention_heads)

    @property
    def patch_embedding(self) -> nn.Module:
        """The convolution without overlap that embeds patches."""
        return next(m for m in self.tower.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))

    @property
    def connectors(self) -> Sequence[nn.Module]:
        """The modules that make tokens of the LLM from the tower's output; each runs once per token."""
        inside = [getattr(self.tower, name) for name in _MERGERS if hasattr(self.tower, name)]
        return inside or [getattr(self._model, name) for name in _CONNECTORS if hasattr(self._model, name)]

    @property
    def has_cls(self) -> bool:
        """Whether the tower has a CLS token for each image or tile."""
        return any(name.rpartition(".")[2] in _CLS for name, _ in self.tower.named_parameters())


@building()
@quiet_transformers()
def skeleton(config: Any) -> Skeleton:
    """The skeleton of a model with this Hugging Face configuration; the last few are remembered."""
    kind: Any = type(config)
    return _skeleton(kind, config.to_json_string(use_diff=False))


@lru_cache(maxsize=8)
def _skeleton(kind: Any, text: str) -> Skeleton:
    # A copy: building a model writes to its configuration.
    return Skeleton(kind.from_dict(json.loads(text)))
