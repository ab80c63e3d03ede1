"""TRIM (arXiv 2409.10994; official code FreedomIntelligence/TRIM, commit f5a232d)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.counts import by_share, rank
from parbench.ops.remainder import kept_and_mean
from parbench.ops.selection import outliers
from parbench.reducers import Reduction, TokenReducer, one_of
from parbench.reducers.relevance import ComparesText
from parbench.reducers.token_probes import Probes
from parbench.reducers.word_kinds import RATERS, words_of


@dataclass
class Trim(ComparesText, TokenReducer):
    """Keeps the patches that are most relevant to the prompt in CLIP's joint space, and appends the mean of all others.

    The score is the softmax over patches of the negative dot product of patch and text, neither normalised. (The paper says the
    highest cosine. The release negates it, since CLIP's patches score inversely, and ours does for such models.) Without a budget,
    patches above the upper Tukey fence of the scores are kept. With a budget b, the b - 1 best are kept, and the appended mean is
    the b-th token. Kept tokens are in raster order.

    Deviations: the release computes the mean in float16 and pads to all patches with zeros; ours does neither. At a ratio of 1
    the release fails; ours keeps everything and appends nothing. As in the official code, the text is the question as the model
    gets it, with ``<image>`` replaced by a space, truncated to the context of the text encoder. The published figures are of
    models that were fine-tuned with the method.

    Attributes:
        relevance_sign: -1 as in the release, or 1 for towers in which patches of what the text names score highest. The default is
            the model's.
        space: ``llm`` for families without CLIP's text tower: patches as the LLM gets them, and the mean of the input embeddings of
            the question. An extension of ours. None: ``clip``, as in the release.
        raters: The words of the question that are compared with patches: ``content`` words, ``stop`` words, the ``last`` word, the
            ``template`` (the format instruction; nothing without one), or ``all``; for the study in docs/raters.md. None: all.
    """

    title = "TRIM"
    paper = "arXiv 2409.10994"
    prompt_aware = True
    needs = frozenset({"text"})
    substitutes: ClassVar = {**TokenReducer.substitutes, "text": {"space": "llm"}}
    adaptive = True

    relevance_sign: int = -1
    space: str | None = None
    raters: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, relevance_sign=(1, -1), space=(None, "clip", "llm"), raters=(None, *RATERS))
        if self.space == "llm" and self.raters == "template":
            raise ParbenchError(f"method.raters=template of {self.name} has no words in the LLM's space: use method.space=clip")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches and append the mean of the others."""
        scores = self.scores(probes)
        budget = self.asked(probes.geometry)
        if budget == features.shape[1]:
            return Reduction.everything(features)
        size = features.shape[1]
        kept = by_share(outliers(scores).sum(1), size) if budget is None else torch.full_like(scores[:, 0], budget - 1)
        keep = rank(scores) < kept[:, None]
        return Reduction.mix(features, *kept_and_mean(keep), {"selected": keep.sum(1)})

    def scores(self, probes: Probes) -> Tensor:
        """Scores [B, N] in float64; those of an image sum to 1."""
        asked = [prompt.replace("<image>", " ") for prompt in probes.prompts]
        if self.raters is not None:
            asked = [words_of(prompt, self.raters) for prompt in asked]
        if self.space == "llm":
            patches = probes.llm_patches
            texts = [probes.llm_text(prompt).double().mean(0, keepdim=True) for prompt in asked]
        else:
            patches = probes.clip_patches
            texts = [probes.clip_text(image, [prompt]) for image, prompt in enumerate(asked)]
        similarity = patches.double() @ torch.cat(texts).double()[:, :, None]
        return (self.relevance_sign * similarity[..., 0]).softmax(-1)
