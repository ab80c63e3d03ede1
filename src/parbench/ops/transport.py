"""Optimal transport of mass between tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def rescale(values: Tensor, valid: Tensor) -> Tensor:
    """Scale the valid values of each sample to 0..1; zeros if all are equal.

    Args:
        values: [E, ...].
        valid: The same shape, bool.
    """
    flat, real = values.flatten(1), valid.flatten(1)
    low = flat.masked_fill(~real, float("inf")).amin(1, keepdim=True)
    high = flat.masked_fill(~real, float("-inf")).amax(1, keepdim=True)
    return ((flat - low) / (high - low).clamp(min=1e-12)).masked_fill(~real, 0.0).view_as(values)


def one_sided_mass(cost: Tensor, valid: Tensor, temperature: float) -> Tensor:
    """Mass of each source in entropic transport in which every target receives the same mass and sources are unconstrained.

    Args:
        cost: [E, N, M], sources by targets.
        valid: The same shape, bool.
        temperature: Weight of the entropy.

    Returns:
        [E, N], summing to 1.
    """
    taken = (-cost / temperature).masked_fill(~valid, float("-inf")).softmax(1)
    taken = taken.masked_fill(~valid, 0.0)
    return taken.sum(2) / valid.any(1).sum(1, keepdim=True)


def spread(members: Tensor, count: Tensor) -> Tensor:
    """``count`` [E] of the ``members`` [E, N] bool, evenly spaced in their order; all of them if there are fewer."""
    place, size = members.cumsum(1) - 1, members.sum(1, keepdim=True).clamp(min=1)
    wanted = torch.minimum(count[:, None], size)
    return members & ((place + 1) * wanted // size > place * wanted // size)
