"""TopV-like: our reading of TopV (arXiv 2503.18278), without access to official code."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from parbench.errors import ParbenchError
from parbench.ops.transport import one_sided_mass, rescale, spread
from parbench.reducers import Choice
from parbench.reducers.base import one_of
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import ShareCut


@dataclass
class TopV(ShareCut):
    """Keeps the visual tokens that carry the most mass in an optimal transport from a layer's input to its output.

    Both are of the layer before K. Targets are the normalised inputs of its MLP. Sources are the inputs of the layer itself, as
    notes on the paper say, or the normalised inputs of its attention (``sources``). The cost is a sum of three terms, each
    scaled to 0..1: distance of features, proximity on the grid, distance from the centre of the image.

    Deviations. The paper scales both marginals in turn (Sinkhorn). With both fixed, the mass of a row is the given marginal and
    ranks nothing, so only the marginal of the targets is fixed here. The norm and the marginals of the paper could not be
    verified. Default values are those of an unofficial implementation. It recovers every fourth pruned token (a fifth of the kept
    tokens at its 50 %); here that fifth is evenly spaced among the pruned tokens at any budget.

    Both sources, llava-tiny, 300 questions of the val split: the layer's inputs answer 93.0 % at 128 tokens, the normalised ones
    63.7 % (difference +29.3, 95 % interval +23.9 to +35.4); at 64 tokens 47.3 % and 42.0 % (+5.3, -1.4 to +12.4). 49 tokens are
    the fewest that llava-tiny allows. Command, with ``null`` or ``layer``:
    ``parbench eval method=topv method.sources=layer budget=128 dataset.split=val limit=300``.

    Attributes:
        features: Weight of the distance of features.
        nearness: Weight of the proximity on the grid.
        centre: Weight of the distance from the centre.
        sigma: Width of the proximity in patches.
        temperature: Weight of the entropy.
        recovered: Share of the kept tokens that are evenly spaced among the pruned ones.
        sources: ``layer``: the inputs of the layer, without norm; None: the normalised inputs of the attention.
    """

    title = "TopV-like"
    needs = frozenset({"grid"})
    paper = "arXiv 2503.18278"
    features: float = 1.0
    nearness: float = 1.0
    centre: float = 0.01
    sigma: float = 10.0
    temperature: float = 0.1
    recovered: float = 0.2
    sources: str | None = "layer"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, sources=(None, "layer"))
        if self.sigma <= 0 or self.temperature <= 0 or not 0 <= self.recovered < 1:
            raise ParbenchError(
                f"method {self.name} needs sigma and temperature above 0 and recovered from 0 to below 1, not {self.sigma}, "
                f"{self.temperature} and {self.recovered}"
            )

    @property
    def note(self) -> str:
        """That this is our reading."""
        return "our reading; no official code was available"

    def choose(self, view: View) -> Choice:
        """Keep the tokens with the most mass, and a sample of the rest."""
        given = view.before.layer_input if self.sources == "layer" else view.before.attention_input
        source, target = (view.at_tokens(values).double() for values in (given, view.before.mlp_input))
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
