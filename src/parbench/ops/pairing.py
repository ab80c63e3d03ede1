"""Thinning of a list by pairwise similarity."""

from __future__ import annotations

import torch
from torch import Tensor


def thin_by_halves(similarity: Tensor, order: Tensor, keep: int, step: int) -> Tensor:
    """Split a list into even and odd positions and drop the even ones most similar to an odd one, until ``keep`` remain.

    Each round drops at most ``step``. The remaining even ones then precede the odd ones, in descending similarity, and the next
    round splits this order. A list of odd length has one more even position.

    Args:
        similarity: [B, N, N].
        order: [B, M] the list, indices in 0..N-1.
        keep: At least 1, at most M.
        step: At least 1.

    Returns:
        [B, keep] indices in the order after the last round.
    """
    image = torch.arange(len(order), device=order.device)[:, None, None]
    while order.shape[1] > keep:
        even, odd = order[:, ::2], order[:, 1::2]
        nearest = similarity[image, even[:, :, None], odd[:, None, :]].amax(dim=2)
        by_likeness = nearest.argsort(dim=1, descending=True, stable=True)
        gone = min(step, order.shape[1] - keep, even.shape[1])
        order = torch.cat([even.gather(1, by_likeness[:, gone:]), odd], dim=1)
    return order
