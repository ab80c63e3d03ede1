"""Clustering of tokens around density peaks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Noise in densities is at most this, as in the releases of methods for videos.
_NOISE = 1e-6


def density_peaks(
    tokens: Tensor, valid: Tensor, clusters: Tensor, noise: Tensor | None = None, neighbours: int | None = None
) -> Tensor:
    """DPC-KNN: centres are tokens that are dense and far from denser tokens; every other token joins the nearest centre.

    Args:
        tokens: [E, R, d].
        valid: [E, R] bool, False for padding at the end.
        clusters: [E] number of clusters, at least 1 and at most the number of valid tokens (0 without valid tokens).
        noise: See :func:`peaks`.
        neighbours: See :func:`peaks`.

    Returns:
        [E, C, R] bool, the members of each cluster, in descending order of density times distance; empty beyond ``clusters``.
    """
    centre, apart = peaks(tokens, valid, clusters, noise, neighbours)
    return nearest_members(apart, centre, valid, clusters)


def peaks(
    tokens: Tensor, valid: Tensor, clusters: Tensor, noise: Tensor | None = None, neighbours: int | None = None
) -> tuple[Tensor, Tensor]:
    """The centres of DPC-KNN: the tokens with the highest product of density and distance to a denser token.

    Distances are divided by the square root of the width. The density of a token is exp(-mean squared distance) over its nearest
    tokens, including itself. Of equally dense tokens, the earlier one counts as denser. With noise, neither does, and densities
    have float32 precision. The distance of the densest token is the maximum distance.

    Args:
        tokens: [E, R, d].
        valid: [E, R] bool, False for padding at the end.
        clusters: [E] number of centres, at least 1 and at most the number of valid tokens (0 without valid tokens).
        noise: [E, R] float32, added to the density.
        neighbours: Number of nearest tokens for the density; None: as many as there are clusters.

    Returns:
        [E, C] centres in descending order of the product, arbitrary beyond ``clusters``; [E, R, R] the distances, in float64.
    """
    wide = tokens.double()
    size = wide.shape[1]
    apart = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist") / wide.shape[2] ** 0.5
    real = valid[:, :, None] & valid[:, None, :]
    near = apart.masked_fill(~real, float("inf")).sort(dim=2).values.square().cumsum(2)
    count = clusters if neighbours is None else valid.sum(1).clamp(max=neighbours)
    count = count.clamp(min=1)[:, None, None].expand(-1, size, 1)
    density = (-near.gather(2, count - 1)[..., 0] / count[..., 0]).exp()
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
    return peak.argsort(dim=1, descending=True, stable=True)[:, :most], apart


def peaks_among(tokens: Tensor, count: int, noise: Tensor | None = None, neighbours: int | None = None) -> tuple[Tensor, Tensor]:
    """:func:`peaks` of one set of tokens.

    Args:
        tokens: [n, d].
        count: Number of centres, 1 to n.
        noise: [n] float32; a millionth of it is added to the density.
        neighbours: See :func:`peaks`.

    Returns:
        [count] centres in descending order of the product; [n, n] the distances, in float64.
    """
    given = None if noise is None else _NOISE * noise[None]
    centre, apart = peaks(tokens[None], _all(tokens), torch.tensor([count], device=tokens.device), given, neighbours)
    return centre[0], apart[0]


def clusters_among(tokens: Tensor, count: int, noise: Tensor | None = None, neighbours: int | None = None) -> tuple[Tensor, Tensor]:
    """:func:`density_peaks` of one set of tokens.

    Args:
        tokens: [n, d].
        count: Number of clusters, 1 to n.
        noise: See :func:`peaks_among`.
        neighbours: See :func:`peaks`.

    Returns:
        [count] centres in descending order of density times distance; [n] the number of each token's cluster.
    """
    centre, apart = peaks_among(tokens, count, noise, neighbours)
    members = nearest_members(apart[None], centre[None], _all(tokens), torch.tensor([count], device=tokens.device))
    return centre, members[0].long().argmax(0)


def _all(tokens: Tensor) -> Tensor:
    """[1, n] every token [n, d] is valid."""
    return torch.ones(1, len(tokens), dtype=torch.bool, device=tokens.device)


def nearest_members(apart: Tensor, centre: Tensor, valid: Tensor, clusters: Tensor) -> Tensor:
    """The tokens nearest to each centre. A centre is its own, even if it has a duplicate; ties: the earlier centre.

    Args:
        apart: [E, R, R] distances.
        centre: [E, C] centres.
        valid: [E, R] bool, False for padding at the end.
        clusters: [E] number of centres.

    Returns:
        [E, C, R] bool, the members of each centre; empty beyond ``clusters``.
    """
    size, most = apart.shape[1], centre.shape[1]
    wanted = torch.arange(most, device=apart.device)[None] < clusters[:, None]
    to_centre = apart.gather(1, centre[..., None].expand(-1, -1, size)).masked_fill(~wanted[..., None], float("inf"))
    own = F.one_hot(centre, size).bool() & wanted[..., None]
    to_centre = to_centre.masked_fill(own, -1.0)
    joined = F.one_hot(to_centre.argmin(1), most).bool().transpose(1, 2)
    return joined & valid[:, None, :] & wanted[..., None]
