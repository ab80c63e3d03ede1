"""Down-sampling of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.models.vision import Encoded
from parbench.ops.grid import grid_weights
from parbench.reducers import PixelReducer, Provenance, Reduction
from parbench.reducers.pool import coarse_grid


@dataclass
class Downsample(PixelReducer):
    """Resizes the image so that the encoder gives ``budget`` tokens. The encoder's position embeddings are interpolated."""

    title = "downsample"
    control = True

    def check(self, geometry: Geometry) -> None:
        """Also refuse budgets that do not form a grid."""
        super().check(geometry)
        coarse_grid(self.count(geometry), geometry, self.name)

    def shrink(self, pixels: Tensor, geometry: Geometry) -> Tensor:
        """Resize with antialiasing; at the full budget the image is unchanged."""
        rows, columns = coarse_grid(self.count(geometry), geometry, self.name)
        size = (rows * geometry.patch, columns * geometry.patch)
        if size == tuple(pixels.shape[-2:]):
            return pixels
        smaller = F.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        return smaller.to(pixels.dtype)

    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """The reduction in which each token stands for the area of the full image that its patch covers."""
        features = encoded.features
        weights = grid_weights(encoded.grid, (geometry.rows, geometry.columns)).to(features.device)
        counts = torch.full((len(features),), features.shape[1], device=features.device)
        return Reduction(features, counts, Provenance.from_dense(weights.expand(len(features), -1, -1), counts))
