"""The first tokens in raster order: the control that looks at nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class FirstN(TokenReducer):
    """Keeps the first ``budget`` patches, which are the upper rows of the image."""

    title = "first-n"
    control = True
    free = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` tokens from the start."""
        keep = torch.arange(features.shape[1], device=features.device) < self.count(probes.geometry)
        return Reduction.select(features, keep.expand(len(features), -1))
