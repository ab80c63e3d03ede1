"""CDPruner (arXiv 2506.10967; official code Theia-4869/CDPruner, commit 9541616)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.dpp import greedy_map
from parbench.ops.graph import cosine
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer, one_of
from parbench.reducers.relevance import ComparesText
from parbench.reducers.token_probes import Probes
from parbench.reducers.wording import strip_format


@dataclass
class CdPruner(ComparesText, TokenReducer):
    """Keeps a diverse set of relevant patches: the greedy MAP of a determinantal point process conditioned on the question.

    The kernel is the cosine matrix of the projected patches, scaled on both sides by relevance. Relevance is the
    negative cosine between patch and question in CLIP's joint space, scaled to 0..1. (The paper says the cosine. CLIP's patches
    score inversely, and ours negates for such models.) Kept tokens are in raster order.

    Deviations: relevance is scaled by the minimum and maximum of the image; the official code uses those of the batch. A question
    longer than the context of the text encoder is read in segments whose relevances are averaged, as in the official code. Each
    segment has a start and an end token here; the official code cuts the raw tokens, so only the last segment has an end. The rank
    of the kernel cannot exceed the width of the projected patches. Beyond it the official code continues with rounding noise and
    NaN; ours adds the most relevant remaining patches. Sharpening of relevance, off by default in the release, is not implemented.

    Attributes:
        strip: Whether the format instruction is removed from the question.
        relevance_sign: -1 as in the release, or 1 for towers in which patches of what the text names score highest. The default is
            the model's.
        space: ``llm`` for families without CLIP's text tower: patches as the LLM gets them, and the input embeddings of the
            question, over which relevance is averaged. An extension of ours. None: ``clip``, as in the release.
    """

    title = "CDPruner"
    paper = "arXiv 2506.10967"
    prompt_aware = True
    needs = frozenset({"text"})
    substitutes: ClassVar = {**TokenReducer.substitutes, "text": {"space": "llm"}}
    own_within = "part"
    place: str = "after_projector"
    strip: bool = True
    relevance_sign: int = -1
    space: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, relevance_sign=(1, -1), space=(None, "clip", "llm"))

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        return Reduction.select(features, to_mask(self.choose(features, probes), features.shape[1]))

    def choose(self, features: Tensor, probes: Probes) -> Tensor:
        """[B, budget] selected patches, in the order of selection."""
        patches = features if self.place == "after_projector" else probes.llm_patches
        relevance = self.relevance(probes)
        kernel = relevance[:, :, None] * cosine(patches) * relevance[:, None, :]
        return greedy_map(kernel, self.count(probes.geometry), relevance)

    def relevance(self, probes: Probes) -> Tensor:
        """Relevance [B, N] in float64: 0 for the least relevant patch of an image, 1 for the most relevant one."""
        llm = self.space == "llm"
        patches = F.normalize((probes.llm_patches if llm else probes.clip_patches).double(), dim=-1)
        rows = []
        for image, prompt in enumerate(probes.prompts):
            asked = strip_format(prompt) if self.strip else prompt
            question = probes.llm_text(asked) if llm else probes.clip_text(image, [asked], whole=True)
            similarity = patches[image] @ F.normalize(question.double(), dim=-1).T
            rows.append(self.relevance_sign * similarity.mean(1))
        raw = torch.stack(rows)
        low, high = raw.amin(1, keepdim=True), raw.amax(1, keepdim=True)
        # The official code adds epsilon to the numerator, so no patch has zero relevance.
        return (raw - low + 1e-6) / (high - low).clamp(min=1e-9)
