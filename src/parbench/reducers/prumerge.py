"""LLaVA-PruMerge (arXiv 2403.15388; official code 42Shawn/LLaVA-PruMerge, commit 097c041)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.counts import by_share
from parbench.ops.graph import cosine
from parbench.ops.selection import outliers, top_k
from parbench.reducers import Reduction
from parbench.reducers.attended import AttendedReducer, last_attended
from parbench.reducers.token_probes import Probes


@dataclass
class PruMerge(AttendedReducer):
    """Keeps patches whose CLS attention is an outlier, merges their nearest neighbours into them, appends one token for the rest.

    Queries and keys are those of the last vision block, not split into heads, as in the official code (the paper says the last
    but one). Neighbours are weighted by the raw attentions, not normalised. With a budget b, the b - 1 patches of highest attention
    are kept, and the appended token is the b-th. Outliers are determined per image; the official code takes quantiles over the
    flattened batch. Kept tokens are in the order of descending attention, as in the official code. In other families than LLaVA-1.5
    the attention is the mean over heads, and tokens are merged behind the connector.

    Attributes:
        neighbours: Number of patches merged into each kept one.
    """

    title = "PruMerge"
    paper = "arXiv 2403.15388"
    adaptive = True
    own_within = "part"
    blocks = (-1,)
    neighbours: int = 32

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.neighbours < 1:
            raise ParbenchError(f"method.neighbours={self.neighbours} of {self.name} is impossible: use 1 or more")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select patches, merge their neighbours, append the token of the rest."""
        attention, keys = last_attended(probes)
        order, counts = self.choose(attention, probes)
        return self.merge(features, cosine(keys), attention, order, counts, self.asked(probes.geometry))

    def choose(self, attention: Tensor, probes: Probes) -> tuple[Tensor, Tensor]:
        """Kept patches [B, K] in the official order, padded by arbitrary indices, and their counts [B]."""
        size = attention.shape[1]
        budget = self.asked(probes.geometry)
        if budget is None:
            counts = by_share(outliers(attention).sum(1), size)
        else:
            # At the full budget there is nothing to append.
            kept = budget if budget == size else budget - 1
            counts = torch.full((len(attention),), kept, device=attention.device)
        return top_k(attention, int(counts.max())), counts

    def merge(
        self,
        features: Tensor,
        similarity: Tensor,
        attention: Tensor,
        order: Tensor,
        counts: Tensor,
        budget: int | None,
    ) -> Reduction:
        """Merge neighbours and append the token of all pruned patches, as weights over the patches."""
        batch, size = attention.shape
        if budget == size:
            return Reduction.everything(features)
        longest = order.shape[1]
        valid = torch.arange(longest, device=order.device)[None] < counts[:, None]
        copies = torch.zeros(batch, size + 1, dtype=torch.long, device=order.device)
        copies.scatter_add_(1, order.masked_fill(~valid, size), torch.ones_like(order))
        copies = copies[:, :size]
        kept, repeated = copies > 0, copies > 1
        # As in the official code, a patch that is listed twice replaces the lowest patch that is not kept.
        lost = ~kept & ((~kept).cumsum(1) <= (copies - 1).clamp(min=0).sum(1, keepdim=True))
        near = similarity.gather(1, order[:, :, None].expand(-1, -1, size))
        twins = near.masked_fill(~repeated[:, None], float("-inf"))
        near = near.masked_fill(lost[:, None], float("-inf")).scatter(2, order[:, :, None], float("-inf"))
        if bool(repeated.any()):
            near = torch.cat([near, twins], dim=2)
        chosen = top_k(near, min(self.neighbours, size - 1)) % size
        weights = torch.zeros(batch, longest + 1, size, dtype=torch.float64, device=order.device)
        own = torch.ones_like(order[:, :, None], dtype=torch.float64)
        weights[:, :longest].scatter_add_(2, order[:, :, None], own)
        weights[:, :longest].scatter_add_(2, chosen, attention[:, None].expand(-1, longest, -1).gather(2, chosen))
        weights[:, :longest] *= valid[..., None]
        # The appended token follows the kept ones of its row.
        weights.scatter_add_(1, counts[:, None, None].expand(-1, 1, size), (attention * ~(kept | lost))[:, None])
        return Reduction.mix(features, weights, counts + 1, {"selected": counts})
