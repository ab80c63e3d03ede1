"""The first tokens in raster order: a control that uses neither image nor question."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class FirstN(TokenReducer):
    """Keeps the first ``budget`` patches in raster order, the upper rows of the image."""

    title = "first-n"
    control = True
    free = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep the first ``budget`` tokens."""
        keep = torch.arange(features.shape[1], device=features.device) < self.count(probes.geometry)
        return Reduction.select(features, keep.expand(len(features), -1))
