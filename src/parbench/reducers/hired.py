"""HiRED (arXiv 2408.10945; official code hasanar1f/HiRED, commit 502d6dd)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.parts import Parts
from parbench.ops.groups import apportion, top_by_group
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.base import shares
from parbench.reducers.token_probes import READ_BLOCK, Probes

_FIRST_BLOCK = 0


@dataclass
class HiRed(AttendedReducer):
    """Divides the budget among the crops of an image by what CLS attends to in its overview; keeps the most attended tokens.

    The overview (base or thumbnail) gets a fixed share of the budget. Of its tokens, those with the highest CLS attention in the
    first block are marked, and each crop gets tokens in proportion to the marks in its area. Within each part, the tokens with the
    highest CLS attention in the block whose output the LLM reads are kept. Attention is summed over heads.

    By default the areas are those of the release: equal runs of the overview's tokens in raster order, which are horizontal
    strips, also where crops lie side by side. The idea is those that the crops show (``areas=shown``).

    The release rounds the number of each crop down and ranks cells of the padding too, so it sends fewer tokens than asked for.
    Here only tokens that are sent are ranked, and the budget is met exactly: what rounding leaves goes to the crops with the
    largest remainders, and what a part does not have to the others. With ``remainder=lost`` numbers are rounded down as in the
    release, and the budget is only an upper bound. The release swaps two crops side by side, or one above the other, when it packs
    them; here tokens keep their places, and newlines stay.

    An image of one part, such as every image of LLaVA-1.5, has only an overview, which gets the whole budget: CLS top-k. Numbers
    of marks scale with the tokens of the overview; the first block and the one that the LLM reads are those of any depth. In
    towers without CLS, it is the attention that a token receives (``attention=received``). Frames of a video have no overview, and
    are refused.

    Attributes:
        overview: Share of the budget for the overview, rounded down (alpha). The rest is the share of its tokens that are marked.
        areas: ``strips`` or ``shown``: which tokens of the overview count for a crop.
        remainder: ``shared`` or ``lost``: what happens to tokens that rounding leaves.
    """

    title = "HiRED"
    takes_videos = False
    paper = "arXiv 2408.10945"
    blocks = (_FIRST_BLOCK, READ_BLOCK)
    overview: float = 0.5
    areas: str = "strips"
    remainder: str = "shared"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, within=(None, "image"), areas=("strips", "shown"), remainder=("shared", "lost"))
        shares(self, "overview")

    @property
    def exact_budget(self) -> bool:
        """Whether every image keeps exactly the budget; not if a remainder is lost."""
        return super().exact_budget and self.remainder == "shared"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the tokens, in the order of the prompt."""
        attention = probes.saliency(READ_BLOCK).sum(1)
        return Reduction.select(features, top_by_group(attention, probes.parts.part, self.counts(probes)))

    def counts(self, probes: Probes) -> Tensor:
        """[B, parts] the tokens to keep of each part."""
        parts, budget = probes.parts, self.count(probes.geometry)
        found = torch.zeros(len(probes.encoded.features), len(parts.parts), dtype=torch.long)
        details, whole = parts.details, parts.sizes[parts.overview]
        most = [parts.sizes[number] for number in details]
        first = min(int(budget * self.overview) if details else budget, whole)
        if self.remainder == "shared":
            first = max(first, budget - sum(most))
        found[:, parts.overview] = first
        if details:
            marks, rest = self.marks(probes, parts).cpu(), min(budget - first, sum(most))
            if self.remainder == "lost":
                # In float32, as the release computes it.
                share = F.normalize(marks.float(), p=1, dim=1)
                shares = (share * rest).long().minimum(torch.tensor(most))
            else:
                shares = torch.tensor([apportion(rest, weights, most) for weights in marks.tolist()])
            found[:, details] = shares
        return found

    def marks(self, probes: Probes, parts: Parts) -> Tensor:
        """[B, K] marked tokens of the overview in the area of each of the other parts."""
        tokens = parts.tokens(parts.overview)
        early = probes.saliency(_FIRST_BLOCK).sum(1)[:, tokens.to(probes.encoded.features.device)]
        marked = to_mask(top_k(early, int(len(tokens) * (1 - self.overview))), len(tokens))
        return marked.double() @ self.area(parts).to(marked.device)

    def area(self, parts: Parts) -> Tensor:
        """[n, K] float64 share of each token of the overview that counts for each of the other parts."""
        if self.areas == "shown":
            return parts.shown()
        count, details = parts.sizes[parts.overview], len(parts.details)
        return F.one_hot(torch.arange(count) * details // count, details).double()
