"""Down-sampling: the image itself made smaller."""

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
    """Resizes the image so that the encoder gives ``budget`` tokens; its position table is interpolated."""

    title = "downsample"
    control = True

    def check(self, geometry: Geometry) -> None:
        """Also refuse counts that make no grid."""
        super().check(geometry)
        coarse_grid(self.count(geometry), geometry, self.name)

    def shrink(self, pixels: Tensor, geometry: Geometry) -> Tensor:
        """Resize with antialiasing; at the full budget the image stays as it is."""
        rows, columns = coarse_grid(self.count(geometry), geometry, self.name)
        size = (rows * geometry.patch, columns * geometry.patch)
        if size == tuple(pixels.shape[-2:]):
            return pixels
        smaller = F.interpolate(pixels.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
        return smaller.to(pixels.dtype)

    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """Each token stands for the area that its patch of the small image covers in the full one."""
        features = encoded.features
        weights = grid_weights(encoded.grid, (geometry.rows, geometry.columns)).to(features.device)
        counts = torch.full((len(features),), features.shape[1], device=features.device)
        return Reduction(features, counts, Provenance.from_dense(weights.expand(len(features), -1, -1), counts))
