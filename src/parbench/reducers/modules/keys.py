"""SparseK's scores of keys."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parbench.reducers.modules.base import LearnedModule

# Length of a vector before training. Scores of tokens are then far enough apart that most are seen whole or not at all.
_LENGTH = 8.0


class KeyScores(LearnedModule):
    """One vector for each layer of the LLM, whose product with a token's normalised input is its score there.

    The vectors start random, from a fixed seed.

    Args:
        width: Width of the LLM.
        layers: Number of its layers.
    """

    kind = "sparsek"

    def __init__(self, width: int, layers: int) -> None:
        super().__init__(width=width, layers=layers)
        self.vectors = nn.Parameter(torch.empty(layers, width))
        self.reset()

    def reset(self) -> Self:
        """Go back to the random vectors, in place."""
        drawn = torch.randn(self.vectors.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            self.vectors.copy_(_LENGTH * F.normalize(drawn, dim=1))
        return self

    def forward(self, layer: int, states: Tensor) -> Tensor:
        """Scores [B, N] of tokens whose attention in a layer gets [B, N, d]. Inputs are scaled to a root mean square of 1."""
        # A product of matrices, as FLOPs of a matrix and a vector are not counted.
        found: Tensor = F.rms_norm(states, states.shape[-1:]) @ self.vectors[layer][:, None]
        return found[..., 0]
