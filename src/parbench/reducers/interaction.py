"""Recoverable compression by text (arXiv 2409.01162), an approximation: no code is public, and only the abstract was read."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.ops.selection import knee, top_k
from parbench.reducers import Choice, Reduction, TokenReducer
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import SingleCut
from parbench.reducers.token_probes import Probes


@dataclass
class ClsKnee(TokenReducer):
    """Keeps the patches before the knee of their sorted similarity to CLS.

    Attributes:
        least: Fewest patches of an image.
        most: Most patches of an image.
    """

    title = "knee of CLS similarity"
    adaptive = True
    least: int = 1
    most: int = 1

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Sort, find the knee, keep what comes before it."""
        cls = F.normalize(probes.encoded.cls.double(), dim=-1)
        similarity = (F.normalize(features.double(), dim=-1) @ cls[:, :, None])[..., 0]
        order = top_k(similarity, similarity.shape[1])
        counts = (knee(similarity.gather(1, order)) + 1).clamp(self.least, self.most)
        rank = order.argsort(dim=1)
        return Reduction.select(features, rank < counts[:, None], {"knee": counts})


@dataclass
class Interaction(SingleCut):
    """Before the LLM, keeps patches by similarity to CLS up to the curve's knee; inside, those to which the text attends most.

    Approximation, of which these are choices of ours: similarity is the cosine of the features that LLaVA reads; the knee is
    the point farthest from the chord; the second part is FastV's, at FastV's layer, ranked by all text tokens behind the
    image; text tokens, which the paper prunes as well, all stay. With a budget, the knee may not leave fewer patches than
    that, nor so many that the layers before the cut spend it all, and the second part keeps what makes the average over the
    layers exact.

    Attributes:
        ratio: Share of the patches left by the knee that the second part drops, used when there is no budget.
    """

    title = "2409.01162 (approximation)"
    paper = "arXiv 2409.01162"
    prompt_aware = True
    adaptive = True

    @property
    def note(self) -> str:
        """That it is one."""
        return "an approximation; its authors published no code"

    def before(self, geometry: Geometry) -> TokenReducer:
        """The knee, within what the budget allows."""
        asked, cut = self.asked(geometry), self.cut(geometry)
        if asked is None:
            return ClsKnee(name=self.name, positions=self.positions, most=geometry.patches)
        most = (asked * geometry.layers - (geometry.layers - cut)) // cut
        most = min(geometry.patches, most)
        return ClsKnee(name=self.name, positions=self.positions, least=asked, most=most)

    def by_layer(self, geometry: Geometry) -> list[int]:
        """The asked average throughout: the image decides how it is spread over the layers.

        Raises:
            ParbenchError: There is no budget; then the image decides the average too.
        """
        return [self.count(geometry)] * geometry.layers

    def choose(self, view: View) -> Choice:
        """The best by the text's attention."""
        attention, real = view.text_attention(view.layout.text[1])
        scores = (attention.mean(1) * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        present, asked = view.valid.sum(1), self.asked(view.geometry)
        if asked is None:
            return Choice.best(view, scores, (present * (1 - self.ratio)).round().clamp(min=1))
        full, depth = self.cut(view.geometry), view.geometry.layers
        spread = (asked * depth - present * full).double() / (depth - full)
        return Choice.best(view, scores, torch.minimum(spread.round().clamp(min=1), present))
