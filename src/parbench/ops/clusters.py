"""Clustering of tokens around density peaks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def density_peaks(tokens: Tensor, valid: Tensor, clusters: Tensor, noise: Tensor | None = None) -> Tensor:
    """DPC-KNN: centres are tokens that are dense and far from denser tokens; every other token joins the nearest centre.

    Distances are divided by the square root of the width. The density of a token is exp(-mean squared distance) over its nearest
    tokens, including itself, as many as there are clusters. Of equally dense tokens, the earlier one counts as denser. With noise,
    neither does, and densities have float32 precision. The distance of the densest token is the maximum distance.

    Args:
        tokens: [E, R, d].
        valid: [E, R] bool, False for padding at the end.
        clusters: [E] number of clusters, at least 1 and at most the number of valid tokens (0 without valid tokens).
        noise: [E, R] float32, added to the density.

    Returns:
        [E, C, R] bool, the members of each cluster, in descending order of density times distance; empty beyond ``clusters``.
    """
    wide = tokens.double()
    size = wide.shape[1]
    apart = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist") / wide.shape[2] ** 0.5
    real = valid[:, :, None] & valid[:, None, :]
    near = apart.masked_fill(~real, float("inf")).sort(dim=2).values.square().cumsum(2)
    neighbours = clusters.clamp(min=1)[:, None, None].expand(-1, size, 1)
    density = (-near.gather(2, neighbours - 1)[..., 0] / neighbours[..., 0]).exp()
    if noise is None:
        order = density.masked_fill(~valid, float("-inf")).argsort(dim=1, descending=True, stable=True)
        level = -order.argsort(dim=1).double()
    else:
        level = density = (density.float() + noise).double()
    denser = (level[:, None, :] > level[:, :, None]) & real
    farthest = apart.masked_fill(~real, 0.0).amax((1, 2))
    parent = apart.masked_fill(~denser, float("inf")).amin(2)
    parent = torch.where(denser.any(2), parent, farthest[:, None])
    peak = (density * parent).masked_fill(~valid, float("-inf"))
    most = int(clusters.max()) if len(clusters) else 0
    centre = peak.argsort(dim=1, descending=True, stable=True)[:, :most]
    wanted = torch.arange(most, device=tokens.device)[None] < clusters[:, None]
    to_centre = apart.gather(1, centre[..., None].expand(-1, -1, size)).masked_fill(~wanted[..., None], float("inf"))
    # A centre belongs to its own cluster, even if it has a duplicate.
    own = F.one_hot(centre, size).bool() & wanted[..., None]
    to_centre = to_centre.masked_fill(own, -1.0)
    joined = F.one_hot(to_centre.argmin(1), most).bool().transpose(1, 2)
    return joined & valid[:, None, :] & wanted[..., None]
