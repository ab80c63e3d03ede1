"""TopV-like: a reading of TopV (arXiv 2503.18278), of which no official code was seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.errors import ParbenchError
from parbench.ops.transport import one_sided_mass, rescale, spread
from parbench.reducers import Choice
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import SingleCut


@dataclass
class TopV(SingleCut):
    """Keeps the visual tokens that carry most mass when a layer's output is transported from its input at least cost.

    Sources are the normalised tokens that entered the attention before layer K, targets those that entered its feed-forward part.
    The cost is a sum, each term scaled to 0..1: distance of features, nearness on the grid, distance from the centre of the image.

    Deviations. The paper scales both marginals in turn (Sinkhorn); with both fixed a row's mass is the given marginal and ranks
    nothing, so only the targets' is fixed here. Which of several norms the paper takes, and its marginals, could not be verified.
    Values are an unofficial implementation's, which recovers every fourth pruned token (a fifth of all that stay at its 50 %): here
    that fifth is evenly spaced among the pruned tokens at any budget.

    Attributes:
        features: Weight of the features' distance.
        nearness: Weight of the distance on the grid.
        centre: Weight of the distance from the centre.
        sigma: Width of nearness in patches.
        temperature: Weight of the entropy.
        recovered: Share of what stays that is spread over the rest of the image.
    """

    title = "TopV-like"
    paper = "arXiv 2503.18278"
    features: float = 1.0
    nearness: float = 1.0
    centre: float = 0.01
    sigma: float = 10.0
    temperature: float = 0.1
    recovered: float = 0.2

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if self.sigma <= 0 or self.temperature <= 0 or not 0 <= self.recovered < 1:
            raise ParbenchError(
                f"method {self.name} needs sigma and temperature above 0 and recovered from 0 to below 1, not {self.sigma}, "
                f"{self.temperature} and {self.recovered}"
            )

    @property
    def note(self) -> str:
        """That it is one."""
        return "a reading; its official code was not seen"

    def choose(self, view: View) -> Choice:
        """The most mass, and a sample of the rest."""
        source, target = view.at_tokens(view.before.hidden).double(), view.at_tokens(view.normed).double()
        places = torch.stack([view.patch // view.geometry.columns, view.patch % view.geometry.columns], dim=-1).double()
        middle = places.new_tensor([view.geometry.rows - 1, view.geometry.columns - 1]) / 2
        valid = view.valid[:, :, None] & view.valid[:, None, :]
        apart = 1 - (-torch.cdist(places, places).square() / (2 * self.sigma**2)).exp()
        central = (places - middle).norm(dim=-1)[:, :, None].expand(valid.shape)
        distance = torch.cdist(source, target, compute_mode="donot_use_mm_for_euclid_dist")
        terms = ((self.features, distance), (self.nearness, apart), (self.centre, central))
        cost = torch.stack([weight * rescale(values, valid) for weight, values in terms]).sum(0)
        mass = one_sided_mass(cost, valid, self.temperature)
        total = view.valid.sum(1).clamp(max=self.left(view.geometry)[0])
        extra = (total * self.recovered).round().long()
        best = Choice.best(view, mass, total - extra)
        return Choice(best.keep | spread(view.valid & ~best.keep, extra), mass)
