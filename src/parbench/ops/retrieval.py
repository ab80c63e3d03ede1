"""How much is relevant: the level from which scores of one image pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.ops.selection import to_mask


@dataclass(frozen=True)
class Similarity:
    """How similar a vector is to an image's queries.

    Attributes:
        mode: ``max`` over the queries; ``pooled``: to their mean; ``weighted``: to their mean, each weighted by the deviation of
            its similarity over the patches.
        sign: 1, or -1 where background is more similar to any text than what the text names.
        cosine: Whether vectors and patches are normalised; queries always are.
    """

    mode: str
    sign: int
    cosine: bool


def standing(vectors: Tensor, patches: Tensor, queries: Tensor, valid: Tensor, by: Similarity) -> Tensor:
    """Relevance [B, N] of vectors to an image's queries, in standard deviations of its patches' similarity above their mean.

    Args:
        vectors: [B, N, p] what is judged.
        patches: [B, M, p] what the scale is taken from.
        queries: [B, Q, p], normalised here.
        valid: [B, Q] False where a row is padding.
        by: What similarity is.
    """

    def similar(to: Tensor, query: Tensor) -> Tensor:
        return by.sign * ((F.normalize(to, dim=-1) if by.cosine else to) @ query.transpose(1, 2))

    query = F.normalize(queries, dim=-1)
    scale = similar(patches, query)
    if by.mode != "max":
        weight = valid * (scale.std(1) if by.mode == "weighted" else torch.ones_like(scale[:, 0]))
        query, valid = F.normalize(weight[:, None] @ query, dim=-1), valid[:, :1]
        scale = similar(patches, query)
    # Queries differ in level; standardising makes them compete on equal terms.
    centred = similar(vectors, query) - scale.mean(1, keepdim=True)
    standard = centred / scale.std(1, keepdim=True).clamp(min=1e-9)
    return standard.masked_fill(~valid[:, None], float("-inf")).amax(2)


def level(scores: Tensor, kind: str, bar: float) -> Tensor:
    """The score from which on tokens pass, per image; it rises with ``bar``.

    Args:
        scores: [B, N].
        kind: ``deviation``: ``bar`` standard deviations above the mean; ``top``: the share 1 / (1 + exp(bar)) of the tokens with
            the
            highest scores; ``mass``: the fewest tokens that hold that share of the softmax over the scores.
        bar: See ``kind``.

    Returns:
        [B, 1]; tokens with equal scores pass together.
    """
    if kind == "deviation":
        return scores.mean(1, keepdim=True) + bar * scores.std(1, keepdim=True)
    share = 1 / (1 + math.exp(bar))
    ordered = scores.sort(dim=1, descending=True).values
    if kind == "top":
        count = max(1, round(share * scores.shape[1]))
        return ordered[:, count - 1 : count]
    held = ordered.softmax(1).cumsum(1)
    last = (held < share).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    return ordered.gather(1, last)


def per_cluster(labels: Tensor, values: Tensor, how: str) -> Tensor:
    """Greatest (``amax``) or mean (``mean``) value of each token's cluster: labels and values [B, N] to [B, N]."""
    start = torch.full_like(values, float("-inf")) if how == "amax" else torch.zeros_like(values)
    return start.scatter_reduce(1, labels, values, how, include_self=False).gather(1, labels)


def centroids(labels: Tensor, vectors: Tensor) -> Tensor:
    """Mean vector of each token's cluster: labels [B, N] and vectors [B, N, d] to [B, N, d]."""
    index = labels[..., None].expand_as(vectors)
    summed = torch.zeros_like(vectors).scatter_reduce(1, index, vectors, "mean", include_self=False)
    return summed.gather(1, index)


def places(first: Tensor, second: Tensor) -> Tensor:
    """Place of each token in falling order of ``first``, then of ``second``, then in raster order: all [B, N]."""
    order = second.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, first.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1)


def fewest(place: Tensor, wanted: int, left: Callable[[Tensor], Tensor]) -> Tensor:
    """The fewest first tokens of each image of which ``wanted`` are left, [B, N] bool; all where never so many are.

    Args:
        place: [B, N] place of each token in the order in which they come.
        wanted: How many shall be left, at least 1.
        left: Maps the tokens that came, [B, N] bool, to those that are left; one that comes adds at most one. Each image by itself.
    """
    size = place.shape[1]
    low = torch.zeros_like(place[:, 0])
    high = torch.full_like(low, size)
    # Fewer are left at ``low``; at ``high`` there are enough, or nothing more comes.
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        enough = left(place < middle[:, None]).sum(1) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return place < high[:, None]


def exactly(chosen: Tensor, others: Tensor, relevance: Tensor, count: int) -> Tensor:
    """``count`` tokens of each image, [B, N] bool: the most relevant chosen ones, and where these are fewer, of the others.

    Args:
        chosen: [B, N] bool.
        others: [B, N] bool, at least ``count`` with the chosen ones.
        relevance: [B, N]; ties go to the lower index.
        count: At most N.
    """
    preference = chosen.long() * 2 + (others & ~chosen).long()
    order = places(preference, relevance).argsort(dim=1)
    return to_mask(order[:, :count], chosen.shape[1])
