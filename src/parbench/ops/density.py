"""The local outlier factor of numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Scikit-learn's: keeps the density of repeated values finite.
_TINY = 1e-10


def local_outlier_factor(values: Tensor, neighbours: int, valid: Tensor | None = None) -> Tensor:
    """How sparse the surroundings of a value are in comparison with those of its neighbours; about 1 for an inner value.

    The neighbours of a value are the nearest others of its row; of equally near ones, the smaller first. Its reach to a neighbour
    is their distance, and at least the distance of the neighbour to its own last neighbour. Its density is the inverse of the mean
    reach (plus 1e-10), and the factor is the mean density of its neighbours over its own. A row with fewer others has as many
    neighbours. These are the numbers of scikit-learn's ``LocalOutlierFactor``, for whole batches and on any device.

    Args:
        values: [B, N].
        neighbours: Number of neighbours, at least 1.
        valid: [B, N] bool, False for values that are left out; None for none.

    Returns:
        [B, N] in float64; 1 for values that are left out, or alone in their row.
    """
    valid = torch.ones_like(values, dtype=torch.bool) if valid is None else valid
    # In one dimension the neighbours of a value are around it once the values are sorted.
    ordered, place = values.double().masked_fill(~valid, float("inf")).sort(dim=1, stable=True)
    count = (valid.sum(1) - 1).clamp(max=neighbours)
    around = F.pad(ordered, (neighbours, neighbours), value=float("inf")).unfold(1, 2 * neighbours + 1, 1)
    apart = (around - ordered[..., None]).abs().nan_to_num(nan=float("inf"), posinf=float("inf"))
    apart[..., neighbours] = float("inf")
    apart, which = (found[..., :neighbours] for found in apart.sort(dim=2, stable=True))
    own = torch.arange(values.shape[1], device=values.device)[:, None]
    nearest = (own + which - neighbours).clamp(0, values.shape[1] - 1)
    real = (torch.arange(neighbours, device=values.device) < count[:, None])[:, None] & apart.isfinite()

    def mean(of: Tensor) -> Tensor:
        return of.masked_fill(~real, 0.0).sum(2) / count.clamp(min=1)[:, None]

    def at_nearest(of: Tensor) -> Tensor:
        return of.gather(1, nearest.flatten(1)).view_as(apart)

    last = apart.masked_fill(~real, 0.0).amax(2)
    density = 1 / (mean(torch.maximum(apart, at_nearest(last))) + _TINY)
    factor = (mean(at_nearest(density)) / density).masked_fill(~real.any(2), 1.0)
    return torch.empty_like(factor).scatter(1, place, factor)
