"""VTW, visual tokens withdrawal (arXiv 2405.05803; official code lzhxmu/VTW, commit a3d8cfc)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Choice, LayerReducer
from parbench.reducers.layer_probes import View

# LLaVA-1.5-7B's depth and the release's default K for it.
_OFFICIAL_LAYERS = 32
_OFFICIAL_CUT = 16


@dataclass
class VTW(LayerReducer):
    """Drops all visual tokens before layer K; the layers from K on process text only.

    Deviations. K: the release's command line uses 16 of 32 layers (the paper 15 for the 7B model); ours scales 16 to the model's
    depth. ``parbench.engine.layer_search`` implements the release's search by divergence. A budget is the average over the layers,
    so it determines K; a budget that no K meets to within half a token is refused. The release handles one image per row; ours
    drops all images of a row.

    Attributes:
        layer: K; None scales the official one, or follows from the budget.
    """

    title = "VTW"
    paper = "arXiv 2405.05803"
    layer: int | None = None

    def check(self, geometry: Geometry) -> None:
        """Refuse a K that the model lacks, and budgets that no K delivers."""
        asked, cut = self.asked(geometry), self.cut(geometry)
        if asked is None and not 1 <= cut < geometry.layers:
            raise ParbenchError(f"method.layer={cut} of {self.name}: use 1 to {geometry.layers - 1} for this model")
        nearest = geometry.patches * cut / geometry.layers
        if asked is not None and abs(nearest - asked) > 0.5:
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach: a layer keeps all tokens or none, and the nearest "
                f"average over {geometry.layers} layers is {nearest:g}"
            )

    def cut(self, geometry: Geometry) -> int:
        """K, the first layer without visual tokens, by the field ``layer``, the budget or the scaled official value."""
        # The same for all images.
        geometry = geometry.any_image
        asked = self.asked(geometry)
        if asked is not None:
            return max(1, round(asked * geometry.layers / geometry.patches))
        return self.layer if self.layer is not None else round(_OFFICIAL_CUT * geometry.layers / _OFFICIAL_LAYERS)

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The only stage, K; no stage if the budget keeps all tokens in every layer."""
        cut = self.cut(geometry)
        return (cut,) if cut < geometry.layers else ()

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens after the stage: 0."""
        return (0,) * len(self.stages(geometry))

    def choose(self, view: View) -> Choice:
        """Drop all visual tokens."""
        return Choice(torch.zeros_like(view.valid))
