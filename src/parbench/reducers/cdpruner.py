"""CDPruner (arXiv 2506.10967; official code Theia-4869/CDPruner, commit 9541616)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.dpp import greedy_map
from parbench.ops.graph import cosine
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer, one_of
from parbench.reducers.token_probes import Probes
from parbench.reducers.wording import strip_format


@dataclass
class CdPruner(TokenReducer):
    """Keeps a diverse set of relevant patches: the greedy MAP of a determinantal point process conditioned on the question.

    The kernel is the cosine matrix of the projected patches, scaled on both sides by relevance. Relevance is minus the
    cosine between patch and question in CLIP's joint space (the paper says the cosine; CLIP's patches score inversely, and we
    negate for such models), scaled to 0..1. Kept tokens come in raster order.

    Deviations: minimum and maximum of relevance are the image's own (officially the batch's). A question longer than the text
    tower's context is read in segments and their relevances averaged, as officially, but each segment has a begin and an end
    of its own (officially the raw tokens are cut, so that only the last segment has an end). The kernel's rank cannot exceed
    the width of the projected patches, where the official code goes on with rounding noise and NaN; ours fills up what is
    asked for beyond the rank with the most relevant patches that are left. Sharpening of relevance, switched off officially,
    is not offered.

    Attributes:
        strip: Whether the sentence that says how to answer is left out of the question.
        relevance_sign: -1 as the release, 1 for towers in which what the text names scores highest; the model's own by default.
    """

    title = "CDPruner"
    paper = "arXiv 2506.10967"
    prompt_aware = True
    place: str = "after_projector"
    strip: bool = True
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
        """Select."""
        return Reduction.select(features, to_mask(self.choose(features, probes), features.shape[1]))

    def choose(self, features: Tensor, probes: Probes) -> Tensor:
        """[B, budget] patches in the order of choice."""
        patches = features if self.place == "after_projector" else probes.llm_patches
        relevance = self.relevance(probes)
        kernel = relevance[:, :, None] * cosine(patches) * relevance[:, None, :]
        return greedy_map(kernel, self.count(probes.geometry), relevance)

    def relevance(self, probes: Probes) -> Tensor:
        """[B, N] in float64, 0 for the least relevant patch of an image and 1 for the most."""
        patches = F.normalize(probes.clip_patches.double(), dim=-1)
        rows = []
        for image, prompt in enumerate(probes.prompts):
            question = probes.clip_text(image, [strip_format(prompt) if self.strip else prompt], whole=True)
            similarity = patches[image] @ F.normalize(question.double(), dim=-1).T
            rows.append(self.relevance_sign * similarity.mean(1))
        raw = torch.stack(rows)
        low, high = raw.amin(1, keepdim=True), raw.amax(1, keepdim=True)
        # The official epsilon is on the numerator, so that no patch has zero relevance.
        return (raw - low + 1e-6) / (high - low).clamp(min=1e-9)
