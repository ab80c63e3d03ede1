"""No reduction: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Unreduced(TokenReducer):
    """Keeps every visual token."""

    title = "none"
    control = True
    free = True
    takes_budget = False
    # It keeps all tokens, so it needs no budget.
    adaptive = True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Return all tokens unchanged."""
        return Reduction.everything(features)
