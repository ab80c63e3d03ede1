"""PruneSID (arXiv 2603.09480; official code ZhengyaoFang/PruneSID, commit 4ef17d9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.ops.graph import cosine, suppress
from parbench.ops.selection import gather
from parbench.reducers import Reduction, one_of
from parbench.reducers.attended import AttendedReducer
from parbench.reducers.provenance import Provenance
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Tokens of the budget for each group, and those by which the threshold of similarity grows by its mean.
_PER_GROUP, _PER_MEAN = 4, 32
# Most tokens of a group, for each 64 of the budget.
_MOST, _OF = 5, 64


class Grouped(NamedTuple):
    """The groups of patches of a batch of images, and what is taken of them.

    Attributes:
        group: [B, N] the group of each patch.
        survives: [B, N] bool, patches that suppression leaves.
        shares: For each image, the patches taken of each group.
        order: [B, T] the patches taken, in the order in which they are sent.
    """

    group: Tensor
    survives: Tensor
    shares: list[list[int]]
    order: Tensor


@dataclass
class PruneSid(AttendedReducer):
    """Groups patches by principal component, suppresses alike ones in each group, and shares the budget among groups.

    Components are those of the sigmoid of features before the projector, each patch centred over channels; there is one for four
    tokens of the budget. In each group, patches are taken by descending attention of CLS (of the block whose output LLaVA reads,
    sum over heads). One is suppressed if its cosine with a patch taken before is above budget / 32 times the mean cosine of all
    pairs. The budget is shared among groups in proportion to survivors, at least one for each group, at most five for each 64 of
    the budget unless that is too few. A group gives its survivors first, then suppressed patches, each by descending attention.

    The budget counts CLS, which is sent first, without provenance. Patches follow group by group, not in raster order, as in the
    release. At the full budget all patches are sent, without CLS, so that keeping everything changes nothing. The ratio of the
    paper that depends on an image's information is not in the release's path for one image, and not here.

    The release decomposes by random projection with two power iterations and another start in every run. Ours is the same algorithm
    in float64 with a start that is drawn from the image's content and ``seed``: an exact decomposition has other vectors, and with
    them other groups, than any run of the release. Shares are rounded exactly, half to even; the release rounds sums in float32. Of
    groups with equally many survivors the first is filled first; the release's order is undefined.

    As in the release, each crop of LLaVA-NeXT is reduced by itself (its code for crops then puts tokens into wrong cells; ours does
    not). In families whose features cannot be read in front of the connector, features are tokens behind it, and no CLS is sent. A
    budget below four has one group, and there are at most as many groups as channels; the release fails in both cases.

    Attributes:
        send_cls: Whether CLS is sent; without it, one more patch is.
        seed: Another start of the decomposition.
    """

    title = "PruneSID"
    paper = "arXiv 2603.09480"
    own_within = "part"
    blocks = (READ_BLOCK,)
    send_cls: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        # CLS is made of the tower's output.
        one_of(self, place=("before_projector",))
        super().__post_init__()

    def sends_cls(self, geometry: Geometry) -> bool:
        """Whether CLS is sent to a model of these sizes."""
        return self.send_cls and "projector" in geometry.offers

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Send CLS, then the patches of each group."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        order = self.choose(probes).order
        tokens, first = gather(features, order), int(self.sends_cls(probes.geometry))
        if first:
            tokens = torch.cat([probes.cls[:, None], tokens], dim=1)
        image, token = torch.ones_like(order).nonzero(as_tuple=True)
        origin = Provenance(image, token + first, order.flatten(), torch.ones_like(token, dtype=torch.float64))
        return Reduction(tokens, torch.full((len(order),), tokens.shape[1], device=order.device), origin)

    def choose(self, probes: Probes) -> Grouped:
        """Group the patches, and take the share of each group."""
        features, budget = probes.encoded.features, self.count(probes.geometry)
        size = features.shape[1]
        groups = min(max(1, budget // _PER_GROUP), size, features.shape[2])
        group = probes.loadings(groups, self.seed).abs().argmax(-1)
        attention = probes.saliency(READ_BLOCK).sum(1)
        similarity = cosine(features)
        mean = similarity.triu(1).sum((1, 2)) / max(1, size * (size - 1) / 2)
        excess = similarity - (budget / _PER_MEAN * mean)[:, None, None]
        # Patches of other groups are as unlike as can be.
        apart = excess.masked_fill(group[:, :, None] != group[:, None], float("-inf"))
        survives = suppress(apart, attention, torch.ones_like(group, dtype=torch.bool), 0.0)
        member = F.one_hot(group, groups)
        members, survivors = member.sum(1).tolist(), (member * survives[..., None]).sum(1).tolist()
        first = int(self.sends_cls(probes.geometry))
        taken = [shares(left, all_, budget, budget - first) for left, all_ in zip(survivors, members, strict=True)]
        # By group, then survivors before others, then by attention: stable sorts, the least important key first.
        order = attention.argsort(dim=1, descending=True, stable=True)
        for key in ((~survives).long(), group):
            order = order.gather(1, key.gather(1, order).argsort(dim=1, stable=True))
        begins = member.sum(1).cumsum(1) - member.sum(1)
        places = torch.arange(size, device=group.device) - begins.gather(1, group.gather(1, order))
        room = torch.tensor(taken, device=group.device).gather(1, group.gather(1, order))
        return Grouped(group, survives, taken, order[places < room].view(len(group), budget - first))


def shares(survivors: Sequence[int], members: Sequence[int], budget: int, patches: int) -> list[int]:
    """How many patches to take of each group, ``patches`` in all.

    Args:
        survivors: Patches of each group that suppression leaves.
        members: All patches of each group.
        budget: The budget, which bounds the share of a group.
        patches: At most the budget, and at least one for each group that has members.
    """
    low = [min(1, count) for count in members]
    bound = _MOST * math.ceil(budget / _OF)
    high = [min(bound, left, count) for left, count in zip(survivors, members, strict=True)]
    while sum(high) < budget:
        high = [min(most + 1, count) for most, count in zip(high, members, strict=True)]
    rest, total, so_far, before = max(0, patches - sum(low)), sum(survivors), 0, 0
    found = []
    for least, most, left in zip(low, high, survivors, strict=True):
        so_far += left
        whole, over = divmod(rest * so_far, total)
        rounded = whole + (2 * over > total or (2 * over == total and whole % 2 == 1))
        found.append(min(rounded - before + least, most))
        before = rounded
    for group in sorted(range(len(found)), key=lambda number: -survivors[number]):
        found[group] += min(high[group] - found[group], patches - sum(found))
    return found
