"""Random tokens: the control that every method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.reducers.base import Reduction, TokenReducer
from parbench.reducers.ops.selection import to_mask, top_k
from parbench.reducers.probes import Probes


@dataclass
class Random(TokenReducer):
    """Keeps a random subset, drawn from the image's content and ``seed``: the same image loses the same tokens every time."""

    title = "random"
    control = True
    seed: int = 0

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` random tokens an image."""
        noise = probes.noise()
        # Another seed turns the same draw, which keeps it uniform without another generator.
        noise = (noise + 0.6180339887498949 * self.seed) % 1.0
        kept = top_k(noise, self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))
