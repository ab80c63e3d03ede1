"""PACT (arXiv 2504.08966; official code orailix/PACT, commit cf9a0c9)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.leaders import cutoff_for, first_leaders, leaders, nearest_leader, turns
from parbench.ops.selection import compact, gather
from parbench.reducers import Choice
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import SingleCut


@dataclass
class Pact(SingleCut):
    """Before layer L, prunes unimportant visual tokens, clusters the others by their keys, and keeps the mean of each cluster.

    Importance (EUTI in the paper): the attention that the mean query of all tokens up to the image's last one pays to a token, in
    layer L without rotary positions, times the L2 norm of its hidden state. The most important ``share`` is clustered by the
    cosine distance of its keys in layer L, with rotary positions (DBDPC): in descending order of density, a token is a centre if
    it is farther than ``cutoff`` from every centre so far. All tokens, pruned ones too, join their nearest centre if it is
    within ``reach`` times the cutoff; the others are dropped. A centre becomes the mean of its members' hidden states, keeps its
    place and its position id, and is weighted in attention by the number of its members (proportional attention): in layer L and
    all later ones, the log of the number is added to the logits.

    Deviations. The number of tokens depends on the image, and the release sets one cutoff for all. With a budget, the average
    over the layers, ours searches for each image the largest cutoff that leaves enough centres, and keeps the densest of them,
    so that every image has exactly the budget; more than ``share`` passes the pruning if the budget needs it. The release computes
    distances in the model's dtype, ours in float64. With an attention mask given, its option ``keep_casual`` loses causality behind
    the cut; ours adds the logs to the causal mask. Numbers are rounded to half precision as in the release. Several images in a
    row are treated separately, each with all text before it. L = 4 of 28, for LLaVA-OneVision-7B, is scaled to the model's depth.

    Attributes:
        share: Share of the visual tokens that passes the pruning.
        cutoff: Distance within which a denser centre takes a token; used without a budget.
        reach: Multiple of the cutoff within which tokens join a centre.
        proportional: Whether attention weights a centre by the number of its members. Needs the kernels sdpa or eager.
    """

    title = "PACT"
    paper = "arXiv 2504.08966"
    adaptive = True
    official = (4, 28)
    share: float = 0.55
    cutoff: float = 0.21
    reach: float = 1.5
    proportional: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if not 0 < self.share <= 1 or not 0 <= self.cutoff < 2 or self.reach < 1:
            raise ParbenchError(
                f"method.share={self.share}, cutoff={self.cutoff}, reach={self.reach} of {self.name}: use a share above 0 and up "
                "to 1, a cutoff from 0 to below 2, and a reach of at least 1"
            )

    @property
    def weighs_sizes(self) -> bool:
        """Whether attention weights merged tokens by their sizes: the field ``proportional``."""
        return self.proportional

    def choose(self, view: View) -> Choice:
        """Prune, find centres, and merge what is near them."""
        scores, present = self.importance(view), view.valid.sum(1)
        passing, count = (present.double() * self.share).long().clamp(min=1), None
        if self.budget is not None:
            count = present.clamp(max=self.left(view.geometry)[0])
            passing = torch.maximum(passing, count)
        kept = Choice.best(view, scores, passing).keep
        keys = F.normalize(view.at_tokens(view.itself(False).keys.transpose(1, 2).flatten(2)).double(), dim=-1)
        centre, cutoff = self.centres(keys, kept, count)
        return Choice(centre, scores, into=nearest_leader(keys, view.valid, centre, self.reach * cutoff))

    def importance(self, view: View) -> Tensor:
        """[E, N] attention of the mean query to each visual token times the norm of its hidden state."""
        layout = view.layout
        index, valid = layout.visual
        last = index.masked_fill(~valid, -1).amax(1, keepdim=True)
        span = layout.mask[layout.row].bool() & (torch.arange(layout.mask.shape[1], device=last.device) <= last)
        attention = view.unturned().of_mean_query(span, layout.row).mean(1)
        norms: Tensor = view.hidden.double().norm(dim=-1)
        return attention.gather(1, index) * norms

    def centres(self, keys: Tensor, kept: Tensor, count: Tensor | None) -> tuple[Tensor, Tensor]:
        """[E, N] bool, the centres among the ``kept`` tokens [E, N], and [E] the cutoff; ``count`` [E] of them if given."""
        index, counts = compact(kept)
        real = torch.arange(index.shape[1], device=index.device) < counts[:, None]
        vectors = gather(keys, index)
        distance = (1 - vectors @ vectors.transpose(1, 2)).clamp(min=0)
        distance.diagonal(dim1=1, dim2=2).zero_()
        density = ((-(distance / 2).square()).exp() * real[:, None]).sum(2)
        turn = turns(density, real)
        cutoff = distance.new_full(counts.shape, self.cutoff) if count is None else cutoff_for(distance, turn, real, count)
        found = leaders(distance, turn, real, cutoff)
        found = found if count is None else first_leaders(found, turn, count)
        return torch.zeros_like(kept).scatter(1, index, found), cutoff
