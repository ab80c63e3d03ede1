"""Skip-Vision (arXiv 2503.21817; official code zwl666666/Skip-Vision, commit 81b330b), without its training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.redundancy import Redundant, merge_redundant, scattered
from parbench.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers import FeedForwardReducer, Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Share of skipped tokens in the official setting: 156 beside 100 retained ones and two summaries.
_SKIPPED = 156 / 256


@dataclass
class SkipVision(FeedForwardReducer, AttendedReducer):
    """Retains the patches that CLS attends to most, merges the others, and lets the merged ones skip the LLM's feed-forward part.

    Attention is that of the block whose output LLaVA reads, summed over heads. Of the other patches, the most redundant ones (by
    the sum of cosines to the rest, behind the projector) are each merged into the most similar of those that are left, which become
    means. The LLM gets the retained patches in raster order, a summary of them, the merged tokens in falling redundancy, and a
    summary of those. The merged tokens take part in the attention of every layer, but no MLP runs on them, so they only collect
    what attention adds. Their keys and values leave the cache after prefill: the first token of the answer sees them, later ones do
    not. Answers of a single token therefore do not depend on that.

    The budget counts everything that enters the LLM, skipped tokens and summaries included, since attention runs over all of them:
    the official 100 + 156 is a budget of 258 (the paper speaks of 100). Other budgets are split in the same proportion. With a
    budget of less than 4 tokens, or without skipped tokens, only the retained patches are sent. At the full budget everything is
    kept and nothing skipped.

    Deviations: the paper trains projector, LLM and the weights of the summaries with skipping. Here nothing is trained
    (`skip-vision-ada` trains the summaries): a summary is the plain mean, and the LLM has never seen skipped tokens, so results are
    not those of the paper. The release takes the place of the image from the first sample of a batch; ours is that of each sample.
    In other families, tokens are selected over all crops of an image.

    Attributes:
        skipped: Number of merged tokens that skip the feed-forward part; None for the official share of the budget.
    """

    title = "Skip-Vision (untrained)"
    paper = "arXiv 2503.21817"
    needs = FeedForwardReducer.needs | AttendedReducer.needs
    substitutes: ClassVar = AttendedReducer.substitutes
    blocks = (READ_BLOCK,)
    place: str = "after_projector"
    skipped: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        # Projected tokens are merged, and means of them are not projected means.
        one_of(self, place=("after_projector",))
        super().__post_init__()

    @property
    def note(self) -> str:
        """That it was not trained."""
        return "untrained; the merged tokens enter attention only, and count in the budget"

    def check(self, geometry: Geometry) -> None:
        """Also refuse more skipped tokens than the budget has room for."""
        super().check(geometry)
        budget = self.count(geometry)
        if self.skipped is not None and budget < geometry.patches and not 0 <= self.skipped <= max(0, budget - 3):
            raise ParbenchError(
                f"method.skipped={self.skipped} of {self.name} is impossible at budget={self.budget}: use 0 to {max(0, budget - 3)}"
            )

    def split(self, geometry: Geometry) -> tuple[int, int]:
        """Numbers of retained and of skipped tokens of an image."""
        budget = self.count(geometry)
        wanted = round((budget - 2) * _SKIPPED) if self.skipped is None else self.skipped
        skipped = min(wanted, budget - 3)
        return (budget, 0) if budget == geometry.patches or skipped < 1 else (budget - 2 - skipped, skipped)

    def skips(self, geometry: Geometry) -> Tensor:
        """See :meth:`FeedForwardReducer.skips`: the merged tokens, between the summaries."""
        retained, skipped = self.split(geometry)
        found = torch.zeros(self.count(geometry), dtype=torch.bool)
        if skipped:
            found[retained + 1 : -1] = True
        return found

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Retain patches, merge the others, and summarise both by their means."""
        return self.sequence(features, probes, None)

    def sequence(self, features: Tensor, probes: Probes, rate: Callable[[Tensor], Tensor] | None) -> Reduction:
        """The tokens that the LLM gets.

        Args:
            features: [B, N, d] behind the projector.
            probes: Further inputs for these images.
            rate: Gives the scores [B, K] of tokens [B, K, d] in their summary; None for their mean.
        """
        batch, size, _ = features.shape
        retained, skipped = self.split(probes.geometry)
        if retained == size:
            return Reduction.everything(features)
        keep = to_mask(top_k(probes.saliency(READ_BLOCK).sum(1), retained), size)
        if not skipped:
            return Reduction.select(features, keep)
        rest, _ = compact(~keep)
        merged = scattered(self.merge(gather(features, rest), skipped).means, rest, size)
        chosen, _ = compact(keep)
        whole = scattered(torch.eye(retained, dtype=torch.float64, device=features.device).expand(batch, -1, -1), chosen, size)
        parts = []
        for weights in (whole, merged):
            scores = None if rate is None else rate((weights @ features.double()).to(features.dtype))
            parts += [weights, self.summary(weights, scores)]
        counts = torch.full((batch,), retained + skipped + 2, device=features.device)
        return Reduction.mix(features, torch.cat(parts, dim=1), counts)

    @staticmethod
    def merge(tokens: Tensor, count: int) -> Redundant:
        """Merge tokens [B, n, d] into ``count`` of them."""
        return merge_redundant(tokens, count)

    @staticmethod
    def summary(weights: Tensor, scores: Tensor | None = None) -> Tensor:
        """Weights [B, 1, N] of the summary of tokens with weights [B, K, N]: their mean, or weighted by softmaxed scores [B, K]."""
        share = torch.zeros_like(weights[..., 0]) if scores is None else scores.double()
        return share.softmax(1)[:, None] @ weights
