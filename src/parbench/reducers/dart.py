"""DART (arXiv 2502.11494; code of its release as kept in Chenfei-Liao/VTC-Bench, commit 983e443, for LLaVA-1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.pivots import least_similar_in_turn, set_order
from parbench.ops.selection import top_k
from parbench.reducers import Choice
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import ShareCut


@dataclass
class Dart(ShareCut):
    """Before layer K, keeps a few pivots and, for each pivot in turn, the visual tokens that duplicate it least.

    Pivots are the visual tokens, and the text tokens after the image, whose keys in layer K - 1 have the largest L1 norms over
    all heads. Each takes the tokens of smallest cosine to it that no pivot before it took; hidden states are compared behind
    the LLM's final norm. Text pivots guide only. The order of turns is that in which CPython iterates over a set of the pivots'
    places in the sequence, as in the release, computed by its rule (:func:`parbench.ops.pivots.set_order`). It depends on the
    length of the text before the image.

    Deviations. The release delivers the image pivots and an equal number of tokens for each pivot, so less than it is asked for:
    124 of 128 tokens, 60 of 64. Without a budget, ours does the same. A budget is the average over the layers and met exactly:
    the tokens that are left over go to the first pivots in order, one each. The command line of the release overrides the share
    by 128 tokens, of which 132 are delivered; here the share counts. Its version for LLaVA-NeXT subtracts the pivots from the
    budget first and keeps at most 320 tokens; ours treats all families alike. A text of fewer tokens than pivots is an error in
    the release; here all of them are pivots. The images of a row have their own pivots. K = 2 of 32 is scaled to the model's depth.

    Attributes:
        ratio: Share of visual tokens to drop, which is met from below as in the release; used without a budget.
        image_pivots: Number of visual pivots.
        text_pivots: Number of text pivots.
    """

    title = "DART"
    paper = "arXiv 2502.11494"
    prompt_aware = True
    ratio: float = 0.778
    image_pivots: int = 4
    text_pivots: int = 4

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.image_pivots < 1 or self.text_pivots < 0:
            raise ParbenchError(
                f"method.image_pivots={self.image_pivots}, text_pivots={self.text_pivots} of {self.name}: use at least 1, and 0 or "
                "more"
            )

    def own_number(self, geometry: Geometry) -> int:
        """The image pivots, and as many tokens for each pivot as fit into the share, rounded down."""
        pivots = self.image_pivots + self.text_pivots
        each = int(geometry.patches * (1 - self.ratio) / pivots)
        return min(geometry.patches, self.image_pivots + pivots * each)

    def choose(self, view: View) -> Choice:
        """Keep the visual pivots and what all pivots take."""
        own, taken = self.taken(view)
        return Choice(own | (taken >= 0))

    def taken(self, view: View) -> tuple[Tensor, Tensor]:
        """[E, N] bool, the visual pivots; [E, N] the turn of the pivot that takes each visual token, -1 for none."""
        count = view.valid.sum(1).clamp(max=self.left(view.geometry)[0])
        own, column, real = self.pivots(view, count)
        number, rest = real.sum(1, keepdim=True), (count - own.sum(1))[:, None]
        turn = torch.arange(column.shape[1], device=column.device)
        shares = (rest // number + (turn < rest % number)) * real
        rows = view.layout.row[:, None]
        pivots, tokens = (F.normalize(view.norm(states).double(), dim=-1) for states in (view.entering[rows, column], view.hidden))
        return own, least_similar_in_turn(pivots @ tokens.transpose(1, 2), view.valid & ~own, shares)

    def pivots(self, view: View, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pivots, at most ``count`` [E] visual ones.

        Returns:
            [E, N] bool, the visual pivots; [E, P] the columns of all pivots in the order of their turns, padded at the end; [E, P]
            bool, False for padding.
        """
        layout, keys = view.layout, view.before.attention.keys
        # Query heads that share keys would only repeat them.
        norms = keys.double().abs().sum((1, 3)).to(layout.row.device)[layout.row]
        (index, seen), (text, read) = layout.visual, layout.text
        own = Choice.best(view, norms.gather(1, index), count.clamp(max=self.image_pivots)).keep
        visual = _largest(norms, index, seen, own.sum(1).tolist())
        guiding = _largest(norms, text, read, read.sum(1).clamp(max=self.text_pivots).tolist())
        # Places in the sequence count from its first token.
        padding = (layout.mask == 0).sum(1)[layout.row].tolist()
        turns = [
            [place + before for place in set_order([column - before for column in (*ours, *guide)])]
            for ours, guide, before in zip(visual, guiding, padding, strict=True)
        ]
        longest = max(map(len, turns), default=0)
        column = torch.tensor([[*turn, *[0] * (longest - len(turn))] for turn in turns], device=index.device)
        length = torch.tensor([len(turn) for turn in turns], device=index.device)
        return own, column, torch.arange(longest, device=index.device) < length[:, None]


def _largest(norms: Tensor, index: Tensor, valid: Tensor, counts: list[int]) -> list[list[int]]:
    """For each image, the columns ``index`` [E, T] with the largest norms [E, S], in descending order."""
    found = norms.gather(1, index).masked_fill(~valid, float("-inf"))
    columns = index.gather(1, top_k(found, max(counts, default=0))).tolist()
    return [row[:count] for row, count in zip(columns, counts, strict=True)]
