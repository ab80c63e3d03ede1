"""Folding of a sequence: in rounds, tokens at even positions are merged into the most similar tokens at odd positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def least_folded(size: int) -> int:
    """The smallest number of tokens to which ``size`` tokens can be folded."""
    return min(size, 2)


def fold_once(tokens: Tensor, remove: int, penalty: Tensor | None = None, protect: bool = False) -> Tensor:
    """One round: the ``remove`` even tokens that are most similar to an odd one are merged into it.

    Args:
        tokens: [B, T, d] float64, compared by cosine.
        remove: At most (T - 1) // 2.
        penalty: [B, T] subtracted from an even token's similarity, so that it is folded later.
        protect: Whether the first token is never folded.

    Returns:
        [B, T] index of the output token of each token; remaining tokens keep their order.
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
    """Rounds of :func:`fold_once`, each as large as possible, until ``remove`` tokens are removed.

    Between rounds, a group has the mean of its members and the sum of their attention.

    Args:
        tokens: [B, N, d] float64.
        remove: Number of tokens to remove; at least ``least_folded(N)`` remain.
        attention: [B, N] attention that protects tokens from being folded.
        weight: Weight of attention relative to similarity.
        protect: Whether the first token is never folded into another.

    Returns:
        [B, N] index of the output token of each token.
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
