"""PruMerge+ (arXiv 2403.15388; official code 42Shawn/LLaVA-PruMerge, commit 097c041)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.counts import by_share, rank
from parbench.ops.selection import outliers, to_mask, top_k
from parbench.reducers.prumerge import PruMerge
from parbench.reducers.token_probes import Probes


@dataclass
class PruMergePlus(PruMerge):
    """PruMerge with a uniform grid added to the outliers.

    The stride of the grid follows from the share of outliers, as in the official code. That code divides by zero without outliers
    and has a stride of zero with more than a third; ours then keeps only the coarsest grid, or every patch of the grid. Budgets
    have no official definition: for a budget b ours keeps the quarter of b - 1 with the highest attention, and fills up with an
    even grid over the others. This is the average mixture of the adaptive rule.

    Attributes:
        share: None for the adaptive rule. 0.125 is the non-adaptive mode of the release, used for training: that share of the
            patches by attention, and a grid of the same size that may repeat them. As in the official code, a repeated patch
            is sent twice, is a neighbour twice, and removes the lowest patch that is not kept. A budget overrides it.
    """

    title = "PruMerge+"
    share: float | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.share is not None and not 0 < self.share <= 0.5:
            raise ParbenchError(f"method.share={self.share} of {self.name} is impossible: use more than 0, at most 0.5")

    def choose(self, attention: Tensor, probes: Probes) -> tuple[Tensor, Tensor]:
        """Kept patches [B, K] and their counts [B]: outliers first, then grid patches in raster order."""
        budget = self.asked(probes.geometry)
        if budget == attention.shape[1]:
            return super().choose(attention, probes)
        if budget is not None:
            return self._budgeted(attention, budget - 1)
        return self._adaptive(attention) if self.share is None else self._fixed(attention, self.share)

    @staticmethod
    def _fixed(attention: Tensor, share: float) -> tuple[Tensor, Tensor]:
        batch, size = attention.shape
        step = int(1 / share)
        grid = torch.arange(step / 2, size - 1, step, device=attention.device).long()
        order = torch.cat([top_k(attention, int(size * share)), grid.expand(batch, -1)], dim=1)
        return order, torch.full((batch,), order.shape[1], device=attention.device)

    @staticmethod
    def _adaptive(attention: Tensor) -> tuple[Tensor, Tensor]:
        size = attention.shape[1]
        counts = outliers(attention).sum(1)
        step = torch.where(counts > 0, size // counts.clamp(min=1), size)
        stride = (step // 3).clamp(min=1)
        place = torch.arange(size, device=attention.device)
        # The official range ends before the last patch.
        on_grid = (place[None] % stride[:, None] == 0) & (place < size - 1)
        place_by_attention = rank(attention)
        first = place_by_attention < by_share(counts, size)[:, None]
        # Outliers by rank, then grid patches by place, then the rest: one sort gives the official order.
        key = torch.where(first, place_by_attention, torch.where(on_grid, size + place, 2 * size + place))
        totals = (first | on_grid).sum(1)
        return key.argsort(dim=1)[:, : int(totals.max())], totals

    @staticmethod
    def _budgeted(attention: Tensor, count: int) -> tuple[Tensor, Tensor]:
        batch, size = attention.shape
        top = top_k(attention, round(count / 4))
        free = (~to_mask(top, size)).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : size - top.shape[1]]
        fill = count - top.shape[1]
        even = (2 * torch.arange(fill, device=attention.device) + 1) * free.shape[1] // (2 * max(fill, 1))
        order = torch.cat([top, free[:, even]], dim=1)
        return order, torch.full((batch,), count, device=attention.device)
