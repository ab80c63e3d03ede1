"""YOPO, "Treat visual tokens as text?" (arXiv 2410.06169; official code ZhangAIPI/YOPO_MLLM_Pruning, commit f0783f4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import MaskReducer

# LLaVA-1.5-13B's depth, and the layer from which the release masks attention to the image.
_OFFICIAL_LAYERS = 40
_OFFICIAL_CUT = 20


@dataclass
class YOPO(MaskReducer):
    """Keeps all visual tokens. They attend to their neighbours only, use part of the MLP neurons, and are masked in late layers.

    As in the release, everything is computed and then masked; FLOPs count masked parts as skipped. Visual queries attend to visual
    keys at most ``window // 2`` rows and columns away, later ones included. In a pruned head nothing attends to visual keys, and
    visual tokens get no output from it. From ``layer`` on, no query attends to a visual key. Attention weights are not normalised
    again.

    Deviations. The head masks of the release are not part of this package: ``parbench.engine.layer_search`` finds them by the
    release's rule, and ``pruned_heads`` takes them. By default no head is pruned. The masks of the release for 7B are named
    after 8, 16 or 24 heads of 32; counted, they keep 25.4, 48.7 and 75.5 % of all heads. Others are for InternVL and Qwen2-VL.
    Published numbers are of fine-tuned checkpoints (zwt123home123/llava-1.5-7b-prune-zp12 and -zp25 on the hub, and the same
    of 13B); this is the training-free method. The release announces a KV cache without masked parts and does not contain one.
    While it decodes, it masks only the first row of a batch; ours masks every row.

    Attributes:
        window: Width of the neighbourhood in patches; None: causal attention.
        layer: The layer from which on nothing attends to visual tokens; None scales the official 20 of 40 layers.
        feed_forward: Visual tokens use the first 1 / ``feed_forward`` of the MLP neurons.
        pruned_heads: Pairs of layer and head, 0-based.
    """

    title = "YOPO (simulated by masks)"
    paper = "arXiv 2410.06169"
    substitutes: ClassVar = {"grid": {"window": None}, "heads": {"pruned_heads": ()}}
    window: int | None = 5
    layer: int | None = None
    feed_forward: int = 2
    pruned_heads: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        # A head that is listed twice is pruned once.
        self.pruned_heads = tuple(sorted({(int(layer), int(head)) for layer, head in self.pruned_heads}))
        if self.window is not None and (self.window < 1 or self.window % 2 == 0):
            raise ParbenchError(f"method.window={self.window} of {self.name} is not odd, so it has no centre: use an odd width")
        if self.feed_forward < 1:
            raise ParbenchError(f"method.feed_forward={self.feed_forward} of {self.name}: use 1 or more")

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: a grid for neighbours, and heads of their own to prune some."""
        return super().wants | ({"grid"} if self.window is not None else set()) | ({"heads"} if self.pruned_heads else set())

    def check(self, geometry: Geometry) -> None:
        """Refuse layers that the model lacks."""
        super().check(geometry)
        if wrong := [list(pair) for pair in self.pruned_heads if not 0 <= pair[0] < geometry.layers or pair[1] < 0]:
            raise ParbenchError(
                f"method.pruned_heads of {self.name} contains {wrong[0]}: use layers 0 to {geometry.layers - 1} and heads from 0"
            )
        if self.layer is not None and not 0 <= self.layer <= geometry.layers:
            raise ParbenchError(
                f"method.layer={self.layer} of {self.name}: use 0 to {geometry.layers} (no layer is masked) for this model"
            )

    def neighbours(self, geometry: Geometry) -> Tensor | None:
        """[N, N] bool: patches within the window of each other."""
        if self.window is None:
            return None
        row = torch.arange(geometry.patches) // geometry.columns
        column = torch.arange(geometry.patches) % geometry.columns
        near = [(place[:, None] - place[None]).abs() <= self.window // 2 for place in (row, column)]
        return near[0] & near[1]

    def pruned(self, layer: int) -> list[int]:
        """Pruned heads of the layer."""
        return [head for at, head in self.pruned_heads if at == layer]

    def unseen(self, geometry: Geometry) -> int:
        """The first layer in which nothing attends to visual tokens."""
        return self.layer if self.layer is not None else round(_OFFICIAL_CUT * geometry.layers / _OFFICIAL_LAYERS)

    def neurons(self, every: int) -> int:
        """The number of MLP neurons that visual tokens use: ``every // feed_forward``."""
        return every // self.feed_forward
