"""SeTok's tokenizer: attention within each cluster, means, and attention among the means."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parbench.reducers.modules.base import LearnedModule, be_identity, be_zero, identity


class Block(nn.Module):
    """Self-attention and an MLP, each behind a norm and with a residual. Before training both add nothing.

    Args:
        width: Width of the tokens.
        heads: Number of heads.
        ratio: Hidden width of the MLP, in widths.
    """

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mixed = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))
        self.reset()

    def reset(self) -> None:
        """Go back to adding nothing."""
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        be_zero(self.out)
        be_zero(last)

    def forward(self, tokens: Tensor, allowed: Tensor) -> Tensor:
        """Tokens [B, n, d] after the block; ``allowed`` [B, n, n]: whether the first attends to the second, at least to itself."""
        query, key, value = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.mixed(self.norm_in(tokens)).chunk(3, dim=2)
        )
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, None])
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        added: Tensor = self.mlp(self.norm_out(tokens))
        return tokens + added


class ClusterEncoder(LearnedModule):
    """Patches attend to those of their cluster, the mean of a cluster is a token, and tokens attend to one another.

    Before training tokens are plain means of clusters.

    Args:
        width: Width of the features.
        heads: Number of heads; None for heads of 32 dimensions, or the next larger ones that divide the width.
        ratio: Hidden width of the MLPs, in widths.
    """

    kind = "setok"

    def __init__(self, width: int, heads: int | None = None, ratio: int = 2) -> None:
        heads = heads or max(number for number in range(1, max(1, width // 32) + 1) if width % number == 0)
        super().__init__(width=width, heads=heads, ratio=ratio)
        self.inner, self.inter = Block(width, heads, ratio), Block(width, heads, ratio)
        self.out = identity(width)

    def reset(self) -> Self:
        """Go back to means of clusters, in place."""
        self.inner.reset()
        self.inter.reset()
        be_identity(self.out)
        return self

    def forward(self, patches: Tensor, members: Tensor) -> Tensor:
        """Tokens of clusters.

        Args:
            patches: [B, N, d].
            members: [B, K, N] bool, each patch in one cluster; a cluster without members is padding.

        Returns:
            [B, K, d]; padding is arbitrary.
        """
        weights = members.to(patches.dtype)
        together = weights.transpose(1, 2) @ weights > 0
        within = self.inner(patches, together)
        means = weights @ within / weights.sum(2, keepdim=True).clamp(min=1)
        real = members.any(2)
        itself = torch.eye(members.shape[1], dtype=torch.bool, device=members.device)
        tokens: Tensor = self.out(self.inter(means, real[:, None, :] | itself))
        return tokens
