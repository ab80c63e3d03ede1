"""Skip-Vision's weights of tokens in their summary."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from parbench.reducers.modules.base import LearnedModule, be_zero


class Summary(LearnedModule):
    """Rates tokens for their summary, by a norm and a linear layer (``ada`` in the official code). Before training all are equal.

    Args:
        width: Width of the tokens.
    """

    kind = "skip-vision-ada"

    def __init__(self, width: int) -> None:
        super().__init__(width=width)
        self.norm, self.score = nn.LayerNorm(width), nn.Linear(width, 1)
        self.reset()

    def reset(self) -> Self:
        """Go back to equal scores, in place."""
        self.norm.reset_parameters()
        be_zero(self.score)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores [B, K] of tokens [B, K, d]."""
        found: Tensor = self.score(self.norm(tokens))[..., 0]
        return found
