"""PyramidDrop (arXiv 2410.17247; official code Cooperx521/PyramidDrop, commit 6444f30)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Choice, LayerReducer
from parbench.reducers.budget import at_depth
from parbench.reducers.layer_probes import View

# LLaVA-1.5-7B's depth, and the release's layers for it.
_OFFICIAL_LAYERS = 32
_OFFICIAL_STAGES = (8, 16, 24)
# The full layers before the first stage may spend this share of a budget; else the stages move forward.
_FULL_SHARE = 0.75


@dataclass
class PyramidDrop(LayerReducer):
    """At each stage, keeps the visual tokens to which the last prompt token would attend most in the stage's own layer.

    Ranked with that layer's input norm, queries and keys at the positions of the stage before; mean over heads.

    Deviations. Training mode, which ranks by all instruction tokens, is left out. Layers scale with the model's depth.
    Budgets (the average over the layers) are not in the paper and nobody agrees on them: ours keeps the official layers and
    solves for one ratio r such that the stages keep r, r^2, r^3 of the tokens; where the full layers before the first stage
    would spend more than three quarters of the budget, all stages move to half their depth, and again if need be. With
    several images a row, each is ranked by itself.

    Attributes:
        layers: Layers of the stages; None scales the official ones.
        ratios: Share of the original visual tokens that each stage keeps, used when there is no budget.
    """

    title = "PyramidDrop"
    paper = "arXiv 2410.17247"
    prompt_aware = True
    positions: str = "compact"
    layers: Sequence[int] | None = None
    ratios: Sequence[float] = (0.5, 0.25, 0.125)

    def __post_init__(self) -> None:
        """Refuse ratios that are none, or too many."""
        super().__post_init__()
        self.ratios = tuple(self.ratios)
        self.layers = None if self.layers is None else tuple(self.layers)
        falling = list(self.ratios) == sorted(self.ratios, reverse=True)
        if not falling or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ParbenchError(f"method.ratios={list(self.ratios)} of {self.name}: use falling shares, above 0 and at most 1")
        if len(self.ratios) != len(self.layers or _OFFICIAL_STAGES):
            raise ParbenchError(f"method.ratios of {self.name} has {len(self.ratios)} entries: use one for each layer")

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The official layers, scaled, or further forward for a small budget."""
        if self.layers is not None:
            return tuple(self.layers)
        asked, depth = self.asked(geometry), geometry.layers / _OFFICIAL_LAYERS
        while True:
            found = at_depth(_OFFICIAL_STAGES, depth)
            spent = found[0] * geometry.patches
            if asked is None or found[0] == 1 or spent <= _FULL_SHARE * asked * geometry.layers:
                return found
            depth /= 2

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """The official rounding of each ratio of the original tokens; with a budget, the powers of the ratio that delivers it."""
        asked, patches = self.asked(geometry), geometry.patches
        if asked is None:
            return tuple(max(1, int(patches * ratio)) for ratio in self.ratios)
        stages = (*self.stages(geometry), geometry.layers)
        low, high = 0.0, 1.0
        for _ in range(50):
            ratio = (low + high) / 2
            total = stages[0] + sum((stages[i + 1] - stages[i]) * ratio ** (i + 1) for i in range(len(stages) - 1))
            low, high = (ratio, high) if total * patches < asked * geometry.layers else (low, ratio)
        return tuple(max(1, round(patches * high ** (i + 1))) for i in range(len(stages) - 1))

    def choose(self, view: View) -> Choice:
        """The best by what the layer itself would attend to."""
        return Choice.best(view, view.own_attention.mean(1), self.left(view.geometry)[view.stage])
