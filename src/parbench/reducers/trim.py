"""TRIM (arXiv 2409.10994; official code FreedomIntelligence/TRIM, commit f5a232d)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.ops.counts import by_share, rank
from parbench.ops.remainder import kept_and_mean
from parbench.ops.selection import outliers
from parbench.reducers import Reduction, TokenReducer, one_of
from parbench.reducers.token_probes import Probes


@dataclass
class Trim(TokenReducer):
    """Keeps the patches that CLIP finds most telling for the prompt, and appends the mean of all others.

    The score is the softmax over patches of minus the dot product of patch and text, neither normalised (the paper says the
    highest cosine; the release negates, since CLIP's patches score inversely, and so do we for such models). Without a budget,
    patches above the upper Tukey fence of the scores are kept; with a budget b, the b - 1 best, and the appended mean makes b.
    Kept tokens come in raster order.

    Deviations: the release computes the mean in float16 and pads to all patches with zeros, ours does neither; at a ratio
    of 1 it fails, ours keeps everything and appends nothing. The text is the question as the model is asked it, an
    ``<image>`` in it replaced by a space, cut off at the text tower's context, as officially. The published figures are of
    models that were fine-tuned with the method.

    Attributes:
        relevance_sign: -1 as the release, 1 for towers in which what the text names scores highest; the model's own by default.
    """

    title = "TRIM"
    paper = "arXiv 2409.10994"
    prompt_aware = True
    adaptive = True

    relevance_sign: int = -1

    def __post_init__(self) -> None:
        """Refuse other signs."""
        super().__post_init__()
        one_of(self, relevance_sign=(1, -1))

    @property
    def needs_clip(self) -> bool:
        """Always."""
        return True

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select and append."""
        scores = self.scores(probes)
        budget = self.asked(probes.geometry)
        if budget == features.shape[1]:
            return Reduction.everything(features)
        size = features.shape[1]
        kept = by_share(outliers(scores).sum(1), size) if budget is None else torch.full_like(scores[:, 0], budget - 1)
        keep = rank(scores) < kept[:, None]
        return Reduction.mix(features, *kept_and_mean(keep), {"selected": keep.sum(1)})

    def scores(self, probes: Probes) -> Tensor:
        """[B, N] in float64, sums to 1."""
        texts = [probes.clip_text(image, [prompt.replace("<image>", " ")]) for image, prompt in enumerate(probes.prompts)]
        similarity = probes.clip_patches.double() @ torch.cat(texts).double()[:, :, None]
        return (self.relevance_sign * similarity[..., 0]).softmax(-1)
