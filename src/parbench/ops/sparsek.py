"""SparseK (arXiv 2406.16747): a differentiable selection of k values."""

from __future__ import annotations

import torch
from torch import Tensor


def sparsek(scores: Tensor, k: int) -> Tensor:
    """The nearest point to some scores among those with entries in [0, 1] whose sum is k.

    It is ``clip(scores - tau, 0, 1)``. The sum of that falls in tau and is linear between the places ``scores`` and ``scores - 1``,
    so tau is found exactly by sorting these. The gradient is that of the projection: the mean over the entries strictly between 0
    and 1 is subtracted from theirs, and the others have none.

    Args:
        scores: [..., N].
        k: From 1 to N.

    Returns:
        [..., N] in the dtype of the scores.

    Raises:
        ValueError: ``k`` is out of range.
    """
    size = scores.shape[-1]
    if not 1 <= k <= size:
        raise ValueError(f"k={k} of {size} scores is impossible: use 1 to {size}")
    full, part = _ranges(scores.detach().double(), k)
    # At least one entry is on the sloping part, since the sum falls from N to 0.
    tau = ((scores * part).sum(-1, keepdim=True) + full.sum(-1, keepdim=True) - k) / part.sum(-1, keepdim=True)
    return torch.where(part, (scores - tau).clamp(0, 1), full.to(scores.dtype))


def _ranges(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Which entries are 1, and which are on the sloping part; [..., N] bool each."""
    places, order = torch.cat([scores - 1, scores], dim=-1).sort(dim=-1, stable=True)
    # From scores - 1 on an entry falls, from scores on it is 0.
    slope = torch.where(order < scores.shape[-1], -1.0, 1.0).to(scores.dtype).cumsum(-1)
    falls = slope[..., :-1] * places.diff(dim=-1)
    sums = scores.shape[-1] + torch.cat([torch.zeros_like(places[..., :1]), falls.cumsum(-1)], dim=-1)
    # The last place where the sum is still enough. Rounding must not lead beyond the last but one.
    last = ((sums >= k).sum(-1, keepdim=True) - 1).clamp(0, places.shape[-1] - 2)
    middle = (places.gather(-1, last) + places.gather(-1, last + 1)) / 2
    full = scores - 1 >= middle
    return full, (scores > middle) & ~full
