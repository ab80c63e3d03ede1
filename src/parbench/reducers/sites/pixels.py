"""Base class of methods that act on the image."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from parbench.reducers.base import Reducer
from parbench.reducers.provenance import Reduction

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.models.vision import Encoded


@dataclass
class PixelReducer(Reducer):
    """Makes the image smaller, so that the vision tower gives fewer tokens."""

    site = "pixels"
    needs = frozenset({"pixels"})

    @abstractmethod
    def shrink(self, pixels: Tensor, geometry: Geometry) -> Tensor:
        """Shrink pixels [B, 3, H, W] to [B, 3, h, w]; h and w are multiples of the patch size."""

    @abstractmethod
    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """The encoded small image as a reduction of the full patch grid."""
