"""Sparsity Meets Similarity (arXiv 2409.01162), an approximation: no code is public, and only the abstracts were available."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.ops.selection import knee, top_k
from parbench.reducers import Choice, Reduction, TokenReducer
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import ShareCut
from parbench.reducers.token_probes import Probes


@dataclass
class ClsKnee(TokenReducer):
    """Keeps the patches before the knee of their sorted similarity to CLS.

    Attributes:
        least: Minimum patches per image.
        most: Maximum patches per image.
    """

    title = "knee of CLS similarity"
    adaptive = True
    least: int = 1
    most: int = 1

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Sort by similarity, find the knee, keep the patches before it."""
        cls = F.normalize(probes.cls.double(), dim=-1)
        similarity = (F.normalize(features.double(), dim=-1) @ cls[:, :, None])[..., 0]
        order = top_k(similarity, similarity.shape[1])
        counts = (knee(similarity.gather(1, order)) + 1).clamp(self.least, self.most)
        rank = order.argsort(dim=1)
        return Reduction.select(features, rank < counts[:, None], {"knee": counts})


@dataclass
class Interaction(ShareCut):
    """Before the LLM, keeps patches up to the knee of similarity to CLS; inside the LLM, those to which the text attends most.

    The abstract of the paper's second version names three steps: the sequence is cut at the inflection point of the sorted
    similarities to CLS; what is left is projected and joined with the text; tokens are pruned by interaction of image and text.
    That of the first version, "Balancing Performance and Efficiency", says that the last step prunes text tokens as well.

    An approximation with these choices of ours: similarity is the cosine of the features that LLaVA reads; the knee is the point
    farthest from the chord; the second part is FastV's, at FastV's layer, ranked by all text tokens after the image. Text
    tokens are all kept. With a budget, the knee leaves at least that many patches, and not so many that the layers before the cut
    use up the whole budget. The second part then makes the average over the layers exact.

    Recoverable Compression (arXiv 2409.01179), which has public code, is another paper of the same first author.

    Attributes:
        ratio: Share of the patches left by the knee that the second part drops; used without a budget.
    """

    title = "2409.01162 (approximation)"
    needs = frozenset({"projector"})
    paper = "arXiv 2409.01162"
    prompt_aware = True
    adaptive = True
    reads = (-1,)

    @property
    def note(self) -> str:
        """That this is an approximation."""
        return "an approximation; its authors published no code"

    def entering(self, geometry: Geometry) -> TokenReducer:
        """The part before the LLM: the knee, within the limits of the budget."""
        asked, cut = self.asked(geometry), self.cut(geometry)
        if asked is None:
            return ClsKnee(name=self.name, positions=self.positions, most=geometry.patches)
        most = (asked * geometry.layers - (geometry.layers - cut)) // cut
        most = min(geometry.patches, most)
        return ClsKnee(name=self.name, positions=self.positions, least=asked, most=most)

    def by_layer(self, geometry: Geometry) -> list[int]:
        """Visual tokens per layer: the budget for each, since their distribution over the layers depends on the image.

        Raises:
            ParbenchError: There is no budget; the average then depends on the image too.
        """
        return [self.count(geometry)] * geometry.layers

    def choose(self, view: View) -> Choice:
        """Keep the tokens with the highest attention of the text."""
        attention, real = view.text_attention(view.layout.text[1])
        scores = (attention.mean(1) * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        present, asked = view.valid.sum(1), self.asked(view.geometry)
        if asked is None:
            return Choice.best(view, scores, (present * (1 - self.ratio)).round().clamp(min=1))
        full, depth = self.cut(view.geometry), view.geometry.layers
        spread = (asked * depth - present * full).double() / (depth - full)
        return Choice.best(view, scores, torch.minimum(spread.round().clamp(min=1), present))
