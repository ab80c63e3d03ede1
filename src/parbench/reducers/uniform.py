"""A uniform grid of tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.ops.grid import centres, factor
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Uniform(TokenReducer):
    """Keeps the patches at the centres of a coarse grid, or evenly spaced ones if the budget does not form a grid."""

    title = "uniform"
    needs = frozenset({"grid"})
    own_within = "part"
    control = True
    free = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` evenly spaced tokens."""
        rows, columns = probes.encoded.grid
        count = self.count(probes.geometry)
        if coarse := factor(count, rows, columns):
            index = centres(coarse, (rows, columns))
        else:
            index = (2 * torch.arange(count) + 1) * (rows * columns) // (2 * count)
        keep = to_mask(index[None].to(features.device), rows * columns)
        return Reduction.select(features, keep.expand(len(features), -1))
