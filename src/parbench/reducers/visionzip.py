"""VisionZip (arXiv 2412.04467; official code dvlab-research/VisionZip, commit 3151f6d)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers import Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Share of contextual tokens in the official settings: 10 of 64 tokens, 20 of 128, 30 of 192.
_CONTEXTUAL = 10 / 64


@dataclass
class VisionZip(AttendedReducer):
    """Sends CLS, the patches that it attends to most (dominant), and contextual tokens that merge all the others.

    Attention and keys are those of the block whose output LLaVA reads; attention is summed and keys are averaged over heads.
    Targets are evenly spaced among the remaining patches in raster order. Each other remaining patch is assigned to the target
    with the most similar key. A contextual token is its target plus the mean of the assigned patches. This is the sum of the
    release, with about twice the norm of a patch; the paper describes an average.

    The budget counts everything that is sent: CLS, dominant patches (in raster order), contextual tokens (in the order of their
    targets). CLS comes from no patch, so it has no provenance, and with ``positions=keep`` it has the position id of patch 0. At
    the full budget all patches are sent, without CLS and contextual tokens, so that keeping everything changes nothing.

    In families whose features cannot be read in front of the connector, patches are merged behind it, and no CLS is sent: one more
    patch is dominant. As in the release, each crop of LLaVA-NeXT is reduced by itself, and newlines are dropped.

    Attributes:
        contextual: Number of contextual tokens; None for the official share of the budget (10 of 64).
        send_cls: Whether CLS is sent; without it, one more patch is dominant.
    """

    title = "VisionZip"
    paper = "arXiv 2412.04467"
    own_within = "part"
    own_separators = "drop"
    blocks = (READ_BLOCK,)
    contextual: int | None = None
    send_cls: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        # CLS and the contextual tokens are made of the tower's output.
        one_of(self, place=("before_projector",))
        super().__post_init__()

    def check(self, geometry: Geometry) -> None:
        """Also refuse more contextual tokens than the budget allows."""
        super().check(geometry)
        room = self.count(geometry) - self.sends_cls(geometry)
        if self.contextual is not None and not 0 <= self.contextual <= room:
            raise ParbenchError(
                f"method.contextual={self.contextual} of {self.name} is impossible at budget={self.budget}: use 0 to {room}"
            )

    def sends_cls(self, geometry: Geometry) -> bool:
        """Whether CLS is sent to a model of these sizes."""
        return self.send_cls and "projector" in geometry.offers

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Select the dominant patches, merge the others, prepend CLS."""
        batch, size, _ = features.shape
        budget = self.count(probes.geometry)
        if budget == size:
            return Reduction.everything(features)
        contextual = round(budget * _CONTEXTUAL) if self.contextual is None else min(self.contextual, budget)
        first = int(self.sends_cls(probes.geometry))
        attention = probes.saliency(READ_BLOCK).sum(1)
        dominant = to_mask(top_k(attention, budget - contextual - first), size)
        weights = torch.zeros(batch, budget, size, dtype=torch.float64, device=features.device)
        chosen, _ = compact(dominant)
        weights[:, first : budget - contextual].scatter_(2, chosen[..., None], 1.0)
        if contextual:
            keys = probes.token_keys(READ_BLOCK).mean(1)
            weights[:, budget - contextual :] = self.gathered(keys, dominant, contextual)
        counts = torch.full((batch,), budget, device=features.device)
        mixed = Reduction.mix(features, weights, counts)
        if first:
            mixed.tokens[:, 0] = probes.cls
        return mixed

    @staticmethod
    def gathered(keys: Tensor, dominant: Tensor, count: int) -> Tensor:
        """Weights [B, count, N] of the contextual tokens over the patches that are not dominant, from keys [B, N, d]."""
        rest, _ = compact(~dominant)
        left = rest.shape[1]
        places = torch.arange(left, device=keys.device)
        is_target = (places % max(1, left // count) == 0) & (places // max(1, left // count) < count)
        targets, others = rest[:, is_target], rest[:, ~is_target]
        unit = F.normalize(keys, dim=-1)
        nearest = (gather(unit, others) @ gather(unit, targets).transpose(1, 2)).argmax(2)
        members = F.one_hot(nearest, count).transpose(1, 2).double()
        mean = members / members.sum(2, keepdim=True).clamp(min=1)
        weights = keys.new_zeros(len(keys), count, keys.shape[1])
        weights.scatter_(2, others[:, None].expand(-1, count, -1), mean)
        return weights.scatter_(2, targets[..., None], 1.0)
