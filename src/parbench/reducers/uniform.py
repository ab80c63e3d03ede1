"""A uniform grid of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.grid import evenly
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
        index = evenly(self.count(probes.geometry), probes.encoded.grid)
        keep = to_mask(index[None].to(features.device), features.shape[1])
        return Reduction.select(features, keep.expand(len(features), -1))
