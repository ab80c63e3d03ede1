"""MMTok (arXiv 2508.18264; official code Ironieser/MMTok, commit d1522cd)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.coverage import greedy_coverage
from parbench.ops.graph import cosine
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.keywords import keywords
from parbench.reducers.token_probes import Probes


@dataclass
class MmTok(TokenReducer):
    """Keeps patches that together cover the words of the question and the image itself: greedy coverage.

    A row of the coverage matrix says how well each patch stands for one thing: the softmax over patches of cosines, divided by a
    temperature. There is a row for each token of the question's words, with cosines of their input embeddings in the LLM and the
    projected patches, and a row for each patch, with cosines of features before the projector. Rows of either kind are divided by
    their number; those of patches are multiplied by ``alpha``. Each step takes the patch that raises the sum over rows of the best
    value of a chosen patch most. Kept tokens are in raster order.

    Words are those that a fixed list does not leave out; without any, the whole question. The release for LLaVA-1.5 pads pictures
    to squares and takes patches of padding last. Hugging Face's processors crop or resize them, so that there are none. The release
    gives all questions of a batch the text of one; here each has its own. In families whose features cannot be read in front of
    the connector, all cosines are those of tokens behind it.

    Attributes:
        alpha: Weight of covering the image.
        text_temperature: Temperature of the question's rows: 0.02 in the release for LLaVA, 0.01 in that for Qwen2.5-VL.
        image_temperature: Temperature of the image's rows.
        words: Whether words are left out. The release for Qwen2.5-VL keeps all and puts "Question: " in front, which ours does not.
    """

    title = "MMTok"
    paper = "arXiv 2508.18264"
    prompt_aware = True
    place: str = "after_projector"
    alpha: float = 0.5
    text_temperature: float = 0.02
    image_temperature: float = 0.2
    words: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.alpha < 0:
            raise ParbenchError(f"method.alpha={self.alpha} of {self.name} would avoid what covers the image: use 0 or more")
        for field in ("text_temperature", "image_temperature"):
            if getattr(self, field) <= 0:
                raise ParbenchError(f"method.{field}={getattr(self, field)} of {self.name} is not possible: use a number above 0")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the patches, in raster order."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        return Reduction.select(features, to_mask(self.choose(features, probes), features.shape[1]))

    def choose(self, features: Tensor, probes: Probes) -> Tensor:
        """[B, budget] selected patches, in the order of selection."""
        similarity = cosine(probes.encoded.features)
        image = self.alpha * (similarity / self.image_temperature).softmax(-1) / similarity.shape[1]
        budget, last = self.count(probes.geometry), probes.padding
        # One by one: questions differ in length, and with it the order in which gains are summed.
        return torch.cat(
            [
                greedy_coverage(torch.cat([text, rows])[None], budget, last=None if last is None else last[number : number + 1])
                for number, (text, rows) in enumerate(zip(self.text_rows(features, probes), image, strict=True))
            ]
        )

    def text_rows(self, features: Tensor, probes: Probes) -> list[Tensor]:
        """For each image, how well each patch covers each token of the question, [m, N] in float64."""
        projected = features if self.place == "after_projector" else probes.llm_patches
        patches = F.normalize(projected.double(), dim=-1)
        found = []
        for mine, prompt in zip(patches, probes.prompts, strict=True):
            words = F.normalize(probes.llm_text(keywords(prompt) if self.words else prompt).double(), dim=-1)
            found.append((words @ mine.T / self.text_temperature).softmax(-1) / max(1, len(words)))
        return found
