"""The gate of FocusLLaVA's vision-guided sampler."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from parbench.reducers.modules.base import LearnedModule


class ScaleGate(LearnedModule):
    """Rates the scales at which a region can be sent, from the mean of its features. It starts random, from a fixed seed.

    Args:
        width: Width of the features.
        scales: Number of scales.
    """

    kind = "focusllava-vision"

    def __init__(self, width: int, scales: int = 3) -> None:
        super().__init__(width=width, scales=scales)
        self.norm = nn.LayerNorm(width)
        self.hidden, self.score = nn.Linear(width, width // 2), nn.Linear(width // 2, scales)
        self.reset()

    def reset(self) -> Self:
        """Go back to the random gate, in place."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for layer in (self.norm, self.hidden, self.score):
                layer.reset_parameters()
        return self

    def forward(self, regions: Tensor) -> Tensor:
        """Log probabilities [B, R, scales] of the scales of regions with means [B, R, d]."""
        found: Tensor = self.score(nn.functional.gelu(self.hidden(self.norm(regions))))
        return found.log_softmax(2)
