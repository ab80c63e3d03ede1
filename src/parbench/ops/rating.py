"""Text tokens that rate visual tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def raters(visual: Tensor, seen: Tensor, text: Tensor, read: Tensor) -> Tensor:
    """Text tokens whose mean share of the visual tokens' softmaxed similarity is above average.

    Args:
        visual: [E, N, d].
        seen: [E, N] bool, False for padding.
        text: [E, T, d].
        read: [E, T] bool, False for padding.

    Returns:
        [E, T] bool; only the strongest if none is above the mean.
    """
    similarity = (visual.double() @ text.double().transpose(1, 2)).masked_fill(~read[:, None], float("-inf"))
    share = similarity.softmax(-1).masked_fill(~(seen[..., None] & read[:, None]), 0.0)
    mean = share.sum(1) / seen.sum(1, keepdim=True).clamp(min=1)
    above = (mean > mean.sum(1, keepdim=True) / read.sum(1, keepdim=True).clamp(min=1)) & read
    strongest = torch.zeros_like(read)
    if read.shape[1]:
        strongest.scatter_(1, mean.masked_fill(~read, -1.0).argmax(1, keepdim=True), True)
    return torch.where(above.any(1, keepdim=True), above, strongest & read)


def numerical_rank(matrices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rank of each [R, N] matrix in float32, padded by zeros, with torch's tolerance for its real ``rows`` and ``columns`` [E]."""
    tolerance = torch.maximum(rows, columns) * torch.finfo(torch.float32).eps
    found: Tensor = torch.linalg.matrix_rank(matrices.float(), rtol=tolerance)
    return found
