"""Trees of tokens over time: each token of a frame may join the most similar one of the frame before, wherever that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# No limit for joining is lower.
_LEAST = -1 + 1e-6


@dataclass(frozen=True)
class Trees:
    """Tokens of L frames that were joined over time.

    Attributes:
        root: [L, N] the token that each ends in, as an index frame x N + place; its own if it is joined to none.
        share: [L, N] weight of each in its root.
        left: [L, N] bool, roots that are clustered next.
    """

    root: Tensor
    share: Tensor
    left: Tensor

    def of(self, tokens: Tensor) -> Tensor:
        """The trees of tokens [L, N, d], at their roots; in the same form."""
        flat = tokens.flatten(0, 1)
        summed = torch.zeros_like(flat).index_add(0, self.root.flatten(), flat * self.share.flatten()[:, None])
        return summed.view_as(tokens)


def nearest_before(unit: Tensor, taken: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine [L, N] of each token and the most similar one of the frame before, and that one's place [L, N].

    It is -1 for tokens that are taken, and in the first frame; ties: the lower place.

    Args:
        unit: [L, N, d] tokens of length 1.
        taken: [L, N] bool, tokens that neither join nor are joined.
    """
    alike = (unit[1:] @ unit[:-1].transpose(1, 2)).masked_fill(taken[1:, :, None] | taken[:-1, None, :], -1.0)
    best, parent = alike.max(2).values, alike.argmax(2)
    return F.pad(best, (0, 0, 1, 0), value=-1.0), F.pad(parent, (0, 0, 1, 0))


def joining_limit(alike: Tensor, threshold: float, least: int) -> float:
    """The cosine above which tokens join, ``threshold`` or more, so that no fewer than ``least`` of all are left.

    Args:
        alike: [L, N] cosines, see :func:`nearest_before`.
        threshold: The limit if enough tokens are left.
        least: Tokens to be left, taken ones among them.
    """
    most = alike.numel() - least
    if int((alike > threshold).sum()) <= most:
        return threshold
    return max(_LEAST, float(alike.flatten().sort(descending=True).values[max(0, most - 1)]))


def grown(joined: Tensor, parent: Tensor, *, by_children: bool = False) -> tuple[Tensor, Tensor]:
    """The trees that joining makes.

    Args:
        joined: [L, N] bool, tokens that join one of the frame before.
        parent: [L, N] the place of that one.
        by_children: Whether a tree's sum is divided by one more than the tokens that joined its root directly, instead of by all.

    Returns:
        [L, N] the token in which each ends, as an index frame x N + place, its own if it joins none; [L, N] its weight there.
    """
    length, size = joined.shape
    own = torch.arange(length * size, device=joined.device).view(length, size)
    root, below = own.clone(), torch.zeros(length * size, dtype=torch.float64, device=own.device)
    for frame in range(1, length):
        above = root[frame - 1][parent[frame]]
        root[frame] = torch.where(joined[frame], above, own[frame])
        target = own[frame - 1][parent[frame]] if by_children else above
        below = below.index_add(0, target, joined[frame].double())
    return root, 1 / (1 + below[root])
