"""Bipartite soft matching: choice of the tokens to merge, and their averages."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Edges:
    """For each even token of each sequence, its most similar odd token; most similar pair first.

    Attributes:
        source: [B, E] even positions.
        target: [B, E] odd position into which each would be merged.
        score: [B, E] cosine similarity in float64, descending; -inf for invalid pairs (protected tokens, padding).
    """

    source: Tensor
    target: Tensor
    score: Tensor


@dataclass(frozen=True)
class Merge:
    """The tokens of each sequence that are merged.

    Attributes:
        group: [B, T] index of the output token of each token; -1 for padding.
        kept: [B, K] input position of each output token (arbitrary for padding).
        counts: [B] output tokens of each sequence.
        source: [B, R] positions of the tokens that are merged away, most similar first, padded with -1 at the end.
        target: [B, R] position into which each is merged.
    """

    group: Tensor
    kept: Tensor
    counts: Tensor
    source: Tensor
    target: Tensor


def bipartite(metric: Tensor, counts: Tensor, protected: int = 1, penalty: Tensor | None = None) -> Edges:
    """Match even tokens with odd ones by cosine similarity.

    Args:
        metric: [B, T, m] features for the comparison, padded at the end.
        counts: [B] tokens of each sequence.
        protected: Leading tokens that are never merged away (1: CLS).
        penalty: [B, T] subtracted from an even token's similarity, so that it is merged later.
    """
    unit = F.normalize(metric.double(), dim=-1)
    place = torch.arange(metric.shape[1], device=metric.device)
    valid = place[None] < counts[:, None]
    scores = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
    scores = scores.masked_fill(~valid[:, None, 1::2], float("-inf"))
    # An additional column, so that a single token has an (invalid) partner too.
    best, partner = F.pad(scores, (0, 1), value=float("-inf")).max(dim=2)
    if penalty is not None:
        best = best - penalty[:, ::2]
    best = best.masked_fill(~valid[:, ::2] | (place[None, ::2] < protected), float("-inf"))
    order = best.argsort(dim=1, descending=True, stable=True)
    return Edges(2 * order, 2 * partner.gather(1, order) + 1, best.gather(1, order))


def merge_first(edges: Edges, merged: Tensor, counts: Tensor, length: int) -> Merge:
    """Merge the first ``merged`` [B] pairs of each sequence, or all if there are fewer.

    Output tokens are the remaining even ones, in order, then all odd ones. A sequence that merges nothing keeps its order.

    Args:
        edges: The pairs.
        merged: [B] number of pairs to merge.
        counts: [B] tokens of each sequence.
        length: T, including padding.
    """
    merged = torch.minimum(merged, (edges.score > float("-inf")).sum(1))
    most = int(merged.max()) if len(merged) else 0
    taken = torch.arange(most, device=counts.device)[None] < merged[:, None]
    source, target = edges.source[:, :most], edges.target[:, :most]
    place = torch.arange(length, device=counts.device).expand(len(counts), -1)
    gone = torch.zeros(len(counts), length + 1, dtype=torch.bool, device=counts.device)
    gone = gone.scatter(1, source.masked_fill(~taken, length), True)[:, :length]
    valid = place < counts[:, None]
    rank = place + length * (place % 2) * (merged > 0)[:, None] + 2 * length * (gone | ~valid)
    order = rank.argsort(dim=1)
    number = order.argsort(dim=1)
    # A merged token has the index of its target. Targets are odd and never merged away.
    owner = F.pad(place, (0, 1)).scatter(1, source.masked_fill(~taken, length), target.clamp(max=length - 1))
    group = number.gather(1, owner[:, :length]).masked_fill(~valid, -1)
    left = counts - merged
    longest = int(left.max()) if len(left) else 0
    return Merge(group, order[:, :longest], left, source.masked_fill(~taken, -1), target.masked_fill(~taken, -1))


def merge_none(counts: Tensor, length: int) -> Merge:
    """A merge that changes nothing."""
    place = torch.arange(length, device=counts.device).expand(len(counts), -1)
    empty = place[:, :0]
    return Merge(place.masked_fill(place >= counts[:, None], -1), place, counts, empty, empty)


def merge_rounds(metric: Tensor, size: Tensor, counts: Tensor, remove: int, penalty: Tensor | None = None) -> Merge:
    """Rounds of bipartite matching, each as large as possible, until ``remove`` tokens of each sequence are merged away.

    Between rounds, a merged token has the size-weighted mean of its metric and the plain mean of its penalty.

    Args:
        metric: [B, T, m] features for the comparison, CLS first, without padding.
        size: [B, T] patches in each token.
        counts: [B] tokens of each sequence, T each.
        remove: Number of tokens to merge away; at most T - 2.
        penalty: See :func:`bipartite`.
    """
    found = merge_none(counts, metric.shape[1])
    while remove > 0:
        length = metric.shape[1]
        now = min(remove, most_merges(length))
        step = merge_first(bipartite(metric, counts, 1, penalty), torch.full_like(counts, now), counts, length)
        if penalty is not None:
            penalty = merge_average(penalty[..., None], torch.ones_like(penalty), step)[0][..., 0]
        metric, size = merge_average(metric, size, step)
        found, counts, remove = _then(found, step), step.counts, remove - now
    return found


def _then(first: Merge, second: Merge) -> Merge:
    """Two merges in a row as one, without padding."""
    source, target = (first.kept.gather(1, places) for places in (second.source, second.target))
    return Merge(
        second.group.gather(1, first.group),
        first.kept.gather(1, second.kept),
        second.counts,
        torch.cat([first.source, source], dim=1),
        torch.cat([first.target, target], dim=1),
    )


def merge_average(tokens: Tensor, size: Tensor, merge: Merge) -> tuple[Tensor, Tensor]:
    """Size-weighted averages of merged tokens.

    Args:
        tokens: [B, T, d].
        size: [B, T] patches in each token.
        merge: The tokens to merge.

    Returns:
        Tokens [B, K, d] in their dtype, averaged in float64, and sizes [B, K]; zeros for padding. If nothing is merged, the
        arguments unchanged.
    """
    if merge.source.shape[1] == 0:
        return tokens, size
    batch, longest = len(tokens), merge.kept.shape[1]
    # Padding goes to an additional row, which is removed.
    group = torch.where(merge.group < 0, longest, merge.group)
    weight = size.double().masked_fill(merge.group < 0, 0)
    total = tokens.new_zeros(batch, longest + 1, tokens.shape[2], dtype=torch.float64)
    total.scatter_add_(1, group[..., None].expand_as(tokens), tokens.double() * weight[..., None])
    sizes = weight.new_zeros(batch, longest + 1).scatter_add_(1, group, weight)[:, :longest]
    return (total[:, :longest] / sizes.clamp(min=1)[..., None]).to(tokens.dtype), sizes.to(size.dtype)


def most_merges(length: int) -> int:
    """Maximum number of pairs that a sequence can merge at once: its even tokens except the first, CLS."""
    return (length - 1) // 2


def even_merges(length: int, remove: int, blocks: int) -> list[int] | None:
    """Distribute merges evenly among blocks: equally many each, the first ones one more, each at most half of its tokens.

    Adding one merge to a block removes one token or none, so every reachable total is met exactly.

    Args:
        length: Tokens before the first block, including CLS.
        remove: Number of tokens to remove.
        blocks: Number of merging blocks.

    Returns:
        Tokens merged in each block, or None if that many cannot be removed.
    """

    def plan(wanted: int) -> list[int]:
        return capped_merges(length, [(wanted + blocks - 1 - block) // blocks for block in range(blocks)])

    least = bisect_left(range(blocks * most_merges(length)), remove, key=lambda wanted: sum(plan(wanted)))
    return plan(least) if sum(plan(least)) == remove else None


def capped_merges(length: int, wanted: Sequence[int]) -> list[int]:
    """The numbers of tokens that blocks can merge, limited to half of their tokens."""
    plan = []
    for want in wanted:
        plan.append(min(want, most_merges(length)))
        length -= plan[-1]
    return plan


def batch_threshold(scores: Tensor, remove: int) -> float:
    """The similarity strictly above which exactly ``remove`` pairs of a batch are: that of the best unmerged pair, at least 0.

    Args:
        scores: Similarities of the pairs of all images of the batch, in any shape and order; -inf for no pair.
        remove: Number of pairs to merge in the whole batch.
    """
    ranked = scores.flatten().sort(descending=True).values
    return max(0.0, float(ranked[remove])) if remove < len(ranked) else 0.0


def running_thresholds(thresholds: Sequence[float]) -> list[float]:
    """Running mean of the thresholds after each batch."""
    total, means = 0.0, []
    for number, threshold in enumerate(thresholds, start=1):
        total += threshold
        means.append(total / number)
    return means
