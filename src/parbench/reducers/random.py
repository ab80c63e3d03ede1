"""Random tokens: the baseline that every method has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Random(TokenReducer):
    """Keeps a random subset, seeded by the image's content and ``seed``, so the same image always keeps the same tokens."""

    title = "random"
    control = True
    free = True
    seed: int = 0

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep ``budget`` random tokens per image."""
        kept = top_k(probes.noise(self.seed), self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))
