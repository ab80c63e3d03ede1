"""GlobalCom2 (arXiv 2501.05179; official code xuyang-liu16/GlobalCom2, commit 96b2d00)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.groups import apportion, sum_by_group, top_by_group
from parbench.reducers import Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.token_probes import Probes

_LAST_BLOCK = -1
# The release's, against division by zero.
_TINY = 1e-8


@dataclass
class GlobalCom2(AttendedReducer):
    """Lets the overview of an image say how many tokens each crop keeps and, together with the crop's own CLS, which ones.

    A token's score is the scaled product of its key and the query of CLS in the last block of the tower, before the softmax, mean
    over heads. The overview (base or thumbnail) keeps the share of its tokens that the budget is of all tokens, those of the
    highest scores. A crop keeps that share times 1 + s - mean of s, at most all of it, where s is the softmax over crops of the
    overview's scores, summed over what a crop shows and divided by ``temperature``. In a crop, tokens are ranked by their own
    scores plus those of the overview in their place (bilinear), each divided by its norm over the crop.

    The release rounds all numbers down; this, the cap and padding make their sum differ from the budget. Here it is met exactly:
    parts divide it in proportion to these numbers, by largest remainder, and what a part does not have goes to the others. With
    ``remainder=lost`` numbers are rounded down as in the release, and the budget is only nearly met. The release sums over equal
    rectangles of the overview: the same as what crops show, unless three or more crops in a line are padded along it. It sends the
    overview's tokens by descending score, and if there is padding it puts the tokens of crops into wrong cells, which moves rows
    and newlines; here tokens keep their places, and newlines stay.

    The last block is that of a tower of any depth. An image of one part, such as every image of LLaVA-1.5, has only an overview.
    Where the connector joins patches, the score of a token is the mean over its patches; in towers without CLS, it is that of the
    mean query (``attention=received``). Frames of a video have no overview, and are refused.

    Attributes:
        temperature: Divides the sums of scores before the softmax over crops.
        remainder: ``shared`` or ``lost``: what happens to tokens that rounding leaves.
    """

    title = "GlobalCom2"
    takes_videos = False
    paper = "arXiv 2501.05179"
    blocks = (_LAST_BLOCK,)
    temperature: float = 10.0
    remainder: str = "shared"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, within=(None, "image"), remainder=("shared", "lost"))
        if self.temperature <= 0:
            raise ParbenchError(f"method.temperature={self.temperature} of {self.name} is not positive: use a number such as 10")

    @property
    def exact_budget(self) -> bool:
        """Whether every image keeps exactly the budget; not if a remainder is lost."""
        return super().exact_budget and self.remainder == "shared"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the tokens, in the order of the prompt."""
        return Reduction.select(features, top_by_group(self.scores(probes), probes.parts.part, self.counts(probes)))

    def counts(self, probes: Probes) -> Tensor:
        """[B, parts] the tokens to keep of each part."""
        sizes, budget = probes.parts.sizes, self.count(probes.geometry)
        wanted = self.shares(probes).cpu() * torch.tensor(sizes)
        if self.remainder == "lost":
            return wanted.long()
        return torch.tensor([apportion(budget, weights, sizes) for weights in wanted.tolist()])

    def shares(self, probes: Probes) -> Tensor:
        """[B, parts] the share of its tokens that each part keeps, before rounding, in float64."""
        parts, raw = probes.parts, probes.raw_saliency(_LAST_BLOCK)
        share = self.count(probes.geometry) / len(parts.part)
        found = torch.full((len(raw), len(parts.parts)), share, dtype=torch.float64, device=raw.device)
        if parts.details:
            sums = raw[:, parts.tokens(parts.overview).to(raw.device)] @ parts.shown().to(raw.device)
            weights = ((sums - sums.amax(1, keepdim=True)) / self.temperature).exp()
            weights = weights / (weights.sum(1, keepdim=True) + _TINY)
            found[:, parts.details] = (share * (1 + weights - weights.mean(1, keepdim=True))).clamp(max=1)
        return found

    def scores(self, probes: Probes) -> Tensor:
        """[B, N] what tokens are ranked by within their part, in float64."""
        parts, raw = probes.parts, probes.raw_saliency(_LAST_BLOCK)
        if not parts.details:
            return raw
        overview, tokens = parts.parts[parts.overview], parts.tokens(parts.overview).to(raw.device)
        grid, row, column = parts.canvas()
        plane = raw[:, tokens].view(len(raw), 1, overview.rows, overview.columns)
        placed = F.interpolate(plane, grid, mode="bilinear", align_corners=False)[:, 0, row.to(raw.device), column.to(raw.device)]
        found: Tensor = self._unit(raw, parts.part) + self._unit(placed, parts.part)
        found[:, tokens] = raw[:, tokens]
        return found

    @staticmethod
    def _unit(values: Tensor, part: Tensor) -> Tensor:
        """Values [B, N] divided by their norm over the part."""
        norm = sum_by_group(values.square(), part, int(part.max()) + 1).sqrt().clamp(min=_TINY)
        return values / norm[:, part.to(values.device)]
