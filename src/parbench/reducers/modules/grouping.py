"""VisToG's semantic tokens and grouping layer."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from parbench.ops.grouping import hard_groups, straight_through
from parbench.reducers.modules.base import LearnedModule, be_identity, be_zero, identity


class Grouping(LearnedModule):
    """Semantic tokens, and the layer that assigns each patch to one of them and averages the patches of a group.

    Before training all projections are the identity and the MLP adds nothing, so tokens are plain means of groups.

    Args:
        width: Width of the features.
        groups: Number of semantic tokens.
        ratio: Hidden width of the MLP, in widths.

    Attributes:
        tokens: [groups, width] the semantic tokens at the input of the tower's first block.
        start: The same before training.
    """

    kind = "vistog"
    start: Tensor

    def __init__(self, width: int, groups: int, ratio: int = 2) -> None:
        super().__init__(width=width, groups=groups, ratio=ratio)
        self.tokens = nn.Parameter(0.02 * torch.randn(groups, width))
        self.register_buffer("start", self.tokens.detach().clone())
        self.norm_tokens, self.norm_patches, self.norm_out = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.out = (identity(width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))
        self.reset()

    def begin_with(self, tokens: Tensor) -> None:
        """Set the semantic tokens [groups, width] from which training starts."""
        with torch.no_grad():
            self.start.copy_(tokens)
        self.reset()

    def reset(self) -> Self:
        """Go back to the state before training, in place."""
        with torch.no_grad():
            self.tokens.copy_(self.start)
        for norm in (self.norm_tokens, self.norm_patches, self.norm_out):
            norm.reset_parameters()
        for layer in (self.query, self.key, self.value, self.out):
            be_identity(layer)
        last = self.mlp[2]
        assert isinstance(last, nn.Linear)
        be_zero(last)
        return self

    def scores(self, groups: Tensor, patches: Tensor) -> Tensor:
        """Similarity [B, g, N] of the states of semantic tokens [B, g, d] behind the tower and of patches [B, N, d]."""
        query, key = self.query(self.norm_tokens(groups)), self.key(self.norm_patches(patches))
        found: Tensor = query @ key.transpose(1, 2) * query.shape[-1] ** -0.5
        return found

    def forward(self, scores: Tensor, patches: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Group the patches.

        Args:
            scores: [B, g, N] similarity of semantic tokens and patches.
            patches: [B, N, d].
            noise: [B, g, N] added to the scores in training, with a soft gradient; None in evaluation.

        Returns:
            [B, g, d] tokens, [B, g, N] bool the patches of each, and [B] the number of groups that were empty.
        """
        if noise is None:
            members, empty = hard_groups(scores)
            weights = members.to(patches.dtype) / members.sum(2, keepdim=True)
        else:
            members, empty = hard_groups(scores + noise)
            weights = straight_through(scores + noise, members)
        tokens = self.out(weights @ self.value(patches))
        return tokens + self.mlp(self.norm_out(tokens)), members, empty
