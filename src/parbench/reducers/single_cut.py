"""Base classes of methods that drop visual tokens once, before one layer of the LLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import LayerReducer


@dataclass
class SingleCut(LayerReducer):
    """Keeps all tokens in layers 0 to K - 1, and the same smaller number in all later layers.

    Class attributes:
        official: K of the release, and the number of layers of the model that it is given for.

    Attributes:
        layer: K; None scales the official one to the model's depth (at least 1).
    """

    # FastV's on LLaVA-1.5-7B.
    official: ClassVar[tuple[int, int]] = (2, 32)
    layer: int | None = None

    def __post_init__(self) -> None:
        """Check the layer."""
        super().__post_init__()
        if self.layer is not None and self.layer < 1:
            raise ParbenchError(
                f"method.layer={self.layer} of {self.name}: tokens cannot be dropped before layer 1, whose attention decides"
            )

    def check(self, geometry: Geometry) -> None:
        """Refuse a layer that the model lacks, and budgets that the full layers before the cut already exceed."""
        if self.cut(geometry) >= geometry.layers:
            raise ParbenchError(f"method.layer={self.layer} of {self.name}: the model has only {geometry.layers} layers")
        super().check(geometry)

    def cut(self, geometry: Geometry) -> int:
        """K, the layer before which tokens are dropped: ``layer``, or the official one scaled to the model's depth."""
        cut, depth = self.official
        return self.layer if self.layer is not None else max(1, round(cut * geometry.layers / depth))

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The only stage, K."""
        return (self.cut(geometry),)

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Tokens after the cut: so many that the average is the budget; without one, the method's own number."""
        asked = self.asked(geometry)
        if asked is None:
            return (self.own_number(geometry),)
        full, after = self.cut(geometry), geometry.layers - self.cut(geometry)
        kept = round((asked * geometry.layers - geometry.patches * full) / after)
        if kept < 1 and self.is_share_of(geometry):
            kept = 1
        if kept < 1:
            least = -(-(geometry.patches * full + after) // geometry.layers)
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach: {full} full layers of {geometry.layers} already average "
                f"more, so the least is {least}"
            )
        return (kept,)

    def own_number(self, geometry: Geometry) -> int:
        """Tokens after the cut without a budget.

        Raises:
            ParbenchError: The number depends on the image.
        """
        raise ParbenchError(f"method {self.name} keeps a number of tokens that depends on the image: give a budget")


@dataclass
class ShareCut(SingleCut):
    """Without a budget, drops a share of the visual tokens.

    Attributes:
        ratio: Share of visual tokens that is dropped; used without a budget.
    """

    ratio: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if not 0 <= self.ratio < 1:
            raise ParbenchError(
                f"method.ratio={self.ratio} of {self.name} is not a share of tokens to drop: use a number from 0 to below 1"
            )

    def own_number(self, geometry: Geometry) -> int:
        """A share of 1 - ``ratio``, rounded as in FastV's release."""
        return max(1, round(geometry.patches * (1 - self.ratio)))
