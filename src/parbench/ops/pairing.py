"""Thinning a list by pairs: what is most like its nearest rival goes."""

from __future__ import annotations

import torch
from torch import Tensor


def thin_by_halves(similarity: Tensor, order: Tensor, keep: int, step: int) -> Tensor:
    """Split a list by even and odd places and drop the even ones most similar to an odd one, until ``keep`` are left.

    Each round drops at most ``step``; the surviving even ones then lead the list in descending similarity, followed by the
    odd ones, and this new order decides the next split. A list of odd length has one more at even places.

    Args:
        similarity: [B, N, N].
        order: [B, M] the list, places in 0..N-1.
        keep: At least 1, at most M.
        step: At least 1.

    Returns:
        [B, keep] in the order that the last round leaves.
    """
    image = torch.arange(len(order), device=order.device)[:, None, None]
    while order.shape[1] > keep:
        even, odd = order[:, ::2], order[:, 1::2]
        nearest = similarity[image, even[:, :, None], odd[:, None, :]].amax(dim=2)
        by_likeness = nearest.argsort(dim=1, descending=True, stable=True)
        gone = min(step, order.shape[1] - keep, even.shape[1])
        order = torch.cat([even.gather(1, by_likeness[:, gone:]), odd], dim=1)
    return order
