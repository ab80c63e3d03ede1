"""Folding a sequence: tokens at even places go into the most similar tokens at odd places, round by round."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def least_folded(size: int) -> int:
    """The fewest tokens that repeated folding can leave of ``size``."""
    return min(size, 2)


def fold_once(tokens: Tensor, remove: int, penalty: Tensor | None = None, protect: bool = False) -> Tensor:
    """One round: of the tokens at even places, the ``remove`` most similar to an odd one go into it.

    Args:
        tokens: [B, T, d] float64, compared by cosine.
        remove: At most (T - 1) // 2.
        penalty: [B, T] taken off an even token's similarity, so that it is folded later.
        protect: Whether the first token stays whatever happens.

    Returns:
        [B, T] the number of the output token to which each token goes; survivors keep their order.
    """
    batch, size, _ = tokens.shape
    unit = F.normalize(tokens, dim=-1)
    best, target = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(dim=2)
    if penalty is not None:
        best = best - penalty[:, ::2]
    if protect:
        best[:, 0] = float("-inf")
    folded = best.argsort(dim=1, descending=True, stable=True)[:, :remove]
    gone = torch.zeros(batch, size, dtype=torch.bool, device=tokens.device).scatter_(1, 2 * folded, True)
    number = (~gone).cumsum(dim=1) - 1
    into = number.gather(1, 2 * target.gather(1, folded) + 1)
    return number.scatter(1, 2 * folded, into)


def fold(tokens: Tensor, remove: int, attention: Tensor | None = None, weight: float = 0.0, protect: bool = False) -> Tensor:
    """Rounds of :func:`fold_once`, each as large as it can be, until ``remove`` tokens are gone.

    Between rounds a group is the mean of its members, and its attention their sum.

    Args:
        tokens: [B, N, d] float64.
        remove: How many are to go; ``least_folded(N)`` are left in any case.
        attention: [B, N] attention that protects a token.
        weight: Similarity that an attention of 1 is worth.
        protect: Whether the first token is never folded into another.

    Returns:
        [B, N] the number of the output token to which each token goes.
    """
    size = tokens.shape[1]
    goal = max(size - remove, least_folded(size))
    group = torch.arange(size, device=tokens.device).expand(tokens.shape[0], -1)
    left, current, penalty = size, tokens, None
    while left > goal:
        members = F.one_hot(group, left).transpose(1, 2).double()
        if left < size:
            current = (members @ tokens) / members.sum(dim=2, keepdim=True)
        if attention is not None:
            penalty = weight * (members @ attention[:, :, None])[..., 0]
        step = min(left - goal, (left - 1) // 2)
        group = fold_once(current, step, penalty, protect).gather(1, group)
        left -= step
    return group
