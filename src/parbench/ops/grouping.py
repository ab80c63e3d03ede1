"""Hard assignment of patches to groups of which none is empty, with a soft gradient."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def hard_groups(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Each patch in the group for which it scores best; an empty group gets a copy of the patch that scores best for it.

    Args:
        scores: [B, g, N]; ties: the earlier group, or the earlier patch.

    Returns:
        [B, g, N] bool members, at least one of each group, and [B] the number of groups that were empty.
    """
    members = F.one_hot(scores.argmax(1), scores.shape[1]).transpose(1, 2).bool()
    empty = ~members.any(2)
    best = F.one_hot(scores.argmax(2), scores.shape[2]).bool()
    return members | (best & empty[..., None]), empty.sum(1)


def straight_through(scores: Tensor, members: Tensor) -> Tensor:
    """Weights [B, g, N] of the means over members, whose gradient is that of the softmax of the scores over groups."""
    soft = scores.softmax(1)
    hard = members.to(soft.dtype)
    return (hard + soft - soft.detach()) / hard.sum(2, keepdim=True)


def unevenness(scores: Tensor) -> Tensor:
    """How far groups are from equal numbers of patches, in nats: log g minus the entropy of their shares, mean over images.

    Shares are those of the hard choice, with one more patch in each group so that the gradient at an empty group is finite. The
    gradient is that of the softmax over groups, which reaches groups that no patch has chosen.

    Args:
        scores: [B, g, N].

    Returns:
        A scalar from 0 (equal numbers) to less than log g (all patches in one group).
    """
    groups = scores.shape[1]
    soft = scores.softmax(1)
    hard = F.one_hot(scores.argmax(1), groups).transpose(1, 2).to(soft.dtype)
    share = ((hard + soft - soft.detach()).sum(2) + 1) / (scores.shape[2] + groups)
    return (math.log(groups) + (share * share.log()).sum(1)).mean()


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Gumbel noise in float32, drawn on the CPU."""
    drawn = torch.rand(shape, generator=generator).clamp(1e-9, 1 - 1e-7)
    return -(-drawn.log()).log()
