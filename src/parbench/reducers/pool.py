"""Average pooling of the patch grid."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.grid import banded_weights, factor, grid_weights
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


def coarse_grid(count: int, geometry: Geometry, method: str) -> tuple[int, int]:
    """Rows and columns of a coarse grid with ``count`` cells.

    Raises:
        ParbenchError: There is no such grid. The message names the nearest counts that have one.
    """
    if found := factor(count, geometry.rows, geometry.columns):
        return found
    possible = [k for k in range(1, geometry.patches + 1) if factor(k, geometry.rows, geometry.columns)]
    near = sorted(possible, key=lambda k: abs(k - count))[:2]
    raise ParbenchError(
        f"budget={count} of method {method} does not form a grid of at most {geometry.rows} x {geometry.columns}: "
        f"the nearest that do are {' and '.join(map(str, sorted(near)))}"
    )


@dataclass
class Pool(TokenReducer):
    """Averages the patches of each cell of a coarse grid, weighted by area if cells cut patches.

    A budget that forms no grid is refused. In families whose images differ in size, it is met by a grid whose rows have unequal
    numbers of cells.
    """

    title = "pool"
    needs = frozenset({"grid"})
    own_within = "part"
    control = True

    def check(self, geometry: Geometry) -> None:
        """Also refuse budgets that do not form a grid."""
        super().check(geometry)
        if not geometry.varies:
            coarse_grid(self.count(geometry), geometry, self.name)

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Average the patches in each of ``budget`` cells."""
        geometry = probes.geometry
        count = self.count(geometry)
        batch = len(features)
        counts = torch.full((batch,), count, device=features.device)
        if count == features.shape[1]:
            return Reduction.everything(features)
        rows, columns = probes.encoded.grid
        # Where images differ in size, a budget cannot be chosen to form a grid in each.
        if geometry.varies and not factor(count, rows, columns):
            weights = banded_weights(count, rows, columns).to(features.device)
        else:
            weights = grid_weights(coarse_grid(count, geometry, self.name), (rows, columns)).to(features.device)
        return Reduction.mix(features, weights.expand(batch, -1, -1), counts)
