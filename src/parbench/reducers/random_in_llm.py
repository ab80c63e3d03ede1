"""Random tokens inside the LLM: the control for FastV."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.reducers import Choice
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import ShareCut


@dataclass
class RandomInLLM(ShareCut):
    """Keeps a random subset from FastV's layer on, seeded by the image's content and ``seed``."""

    title = "random in the LLM"
    control = True
    free = True
    seed: int = 0

    def choose(self, view: View) -> Choice:
        """Keep the tokens with the highest random scores."""
        return Choice.best(view, view.noise(self.seed), *self.left(view.geometry))
