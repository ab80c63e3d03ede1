"""FastV (arXiv 2403.06764; official code pkunlp-icler/FastV, commit d165972), the variant with a KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.adapter import Geometry
from parbench.reducers.base import LayerReducer, one_of

# LLaVA-1.5-7B's depth, for which the official layer is given.
_OFFICIAL_LAYERS = 32


@dataclass
class FastV(LayerReducer):
    """Before layer K, keeps the visual tokens that the last prompt token attends to most in layer K - 1 (mean over heads).

    Pruned once, at prefill; decoding attends to the shortened cache from layer K on. The paper's text averages over all
    queries; the official code takes the last token, and so do we. A budget means visual tokens averaged over the layers, the
    only sense in which it compares with methods that act before the LLM.

    The default is the paper's K = 2 and R = 50 % (the release's cached variant ships with K = 3).

    Attributes:
        layer: K; None scales the official 2 of 32 layers to the model's depth (at least 1).
        ratio: Share of visual tokens that is dropped, used when there is no budget (official default 0.5).
    """

    title = "FastV"
    paper = "arXiv 2403.06764"
    prompt_aware = True
    layer: int | None = None
    ratio: float = 0.5

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        one_of(self, positions=("keep", "compact"))
        if not 0 <= self.ratio < 1:
            raise ParbenchError(f"method.ratio={self.ratio} of fastv is no share of tokens to drop: use 0 to below 1")
        if self.layer is not None and self.layer < 1:
            raise ParbenchError(
                f"method.layer={self.layer} of fastv: tokens cannot be dropped before layer 1, whose attention decides"
            )

    def check(self, geometry: Geometry) -> None:
        """Refuse averages that the full layers before the cut already exceed."""
        if self.cut(geometry) >= geometry.layers:
            raise ParbenchError(f"method.layer={self.layer} of fastv: the model has only {geometry.layers} layers")
        if self.asked(geometry) is not None:
            self.keep(geometry)

    def cut(self, geometry: Geometry) -> int:
        """K."""
        return self.layer if self.layer is not None else max(1, round(2 * geometry.layers / _OFFICIAL_LAYERS))

    def keep(self, geometry: Geometry) -> int:
        """Tokens after the cut that give the asked average; without a budget, the official rounding of 1 - ratio."""
        asked = self.asked(geometry)
        if asked is None:
            return max(1, round(geometry.patches * (1 - self.ratio)))
        full, after = self.cut(geometry), geometry.layers - self.cut(geometry)
        kept = round((asked * geometry.layers - geometry.patches * full) / after)
        if kept < 1:
            least = -(-(geometry.patches * full + after) // geometry.layers)
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach: {full} full layers of {geometry.layers} already average "
                f"more, so the least is {least}"
            )
        return kept

    def score(self, attention: Tensor) -> Tensor:
        """Mean over heads."""
        return attention.mean(0)
