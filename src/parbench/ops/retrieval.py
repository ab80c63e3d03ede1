"""Relevance of tokens to queries, and thresholds on it."""

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
    """The measure of similarity between vectors and an image's queries.

    Attributes:
        mode: ``max`` over the queries; ``pooled``: similarity to their mean; ``weighted``: to their mean, each weighted by the
            standard deviation of its similarity over the patches.
        sign: 1, or -1 if background patches are more similar to any text than what the text names.
        cosine: Whether vectors and patches are normalised. Queries always are.
    """

    mode: str
    sign: int
    cosine: bool


def standing(vectors: Tensor, patches: Tensor, queries: Tensor, valid: Tensor, by: Similarity) -> Tensor:
    """Relevance [B, N] of vectors to an image's queries, standardised by mean and deviation over its patches.

    Args:
        vectors: [B, N, p] vectors to score.
        patches: [B, M, p] patches that determine mean and standard deviation.
        queries: [B, Q, p], normalised here.
        valid: [B, Q] False for padding.
        by: The measure of similarity.
    """

    def similar(to: Tensor, query: Tensor) -> Tensor:
        return by.sign * ((F.normalize(to, dim=-1) if by.cosine else to) @ query.transpose(1, 2))

    query = F.normalize(queries, dim=-1)
    scale = similar(patches, query)
    if by.mode != "max":
        weight = valid * (scale.std(1) if by.mode == "weighted" else torch.ones_like(scale[:, 0]))
        query, valid = F.normalize(weight[:, None] @ query, dim=-1), valid[:, :1]
        scale = similar(patches, query)
    # Similarities to different queries differ in level; standardising makes them comparable.
    centred = similar(vectors, query) - scale.mean(1, keepdim=True)
    standard = centred / scale.std(1, keepdim=True).clamp(min=1e-9)
    return standard.masked_fill(~valid[:, None], float("-inf")).amax(2)


def level(scores: Tensor, kind: str, threshold: float) -> Tensor:
    """The minimum score of passing tokens, per image; it rises with ``threshold``.

    Args:
        scores: [B, N].
        kind: ``deviation``: ``threshold`` standard deviations above the mean; ``top``: the share 1 / (1 + exp(threshold)) of the
            tokens with the highest scores; ``mass``: the fewest tokens with that share of the softmax over the scores.
        threshold: See ``kind``.

    Returns:
        [B, 1]; tokens with equal scores pass together.
    """
    if kind == "deviation":
        return scores.mean(1, keepdim=True) + threshold * scores.std(1, keepdim=True)
    share = 1 / (1 + math.exp(threshold))
    ordered = scores.sort(dim=1, descending=True).values
    if kind == "top":
        count = max(1, round(share * scores.shape[1]))
        return ordered[:, count - 1 : count]
    held = ordered.softmax(1).cumsum(1)
    last = (held < share).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    return ordered.gather(1, last)


def per_cluster(labels: Tensor, values: Tensor, how: str) -> Tensor:
    """Maximum (``amax``) or mean (``mean``) value of each token's cluster: labels and values [B, N] to [B, N]."""
    start = torch.full_like(values, float("-inf")) if how == "amax" else torch.zeros_like(values)
    return start.scatter_reduce(1, labels, values, how, include_self=False).gather(1, labels)


def centroids(labels: Tensor, vectors: Tensor) -> Tensor:
    """Mean vector of each token's cluster: labels [B, N] and vectors [B, N, d] to [B, N, d]."""
    index = labels[..., None].expand_as(vectors)
    summed = torch.zeros_like(vectors).scatter_reduce(1, index, vectors, "mean", include_self=False)
    return summed.gather(1, index)


def places(first: Tensor, second: Tensor) -> Tensor:
    """Rank of each token in descending order of ``first``, then of ``second``, then in raster order: all [B, N]."""
    order = second.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, first.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return order.argsort(dim=1)


def fewest(place: Tensor, wanted: int, left: Callable[[Tensor], Tensor]) -> Tensor:
    """The smallest prefix of each image's ranking of which ``left`` keeps ``wanted`` tokens, [B, N] bool; all tokens if none does.

    Args:
        place: [B, N] rank of each token.
        wanted: Number of tokens to be kept, at least 1.
        left: Maps a set of tokens [B, N] bool to those that are kept, for each image independently. An additional token adds at
            most one.
    """
    size = place.shape[1]
    low = torch.zeros_like(place[:, 0])
    high = torch.full_like(low, size)
    # ``low`` keeps too few; ``high`` keeps enough, or is the whole ranking.
    while bool((high - low > 1).any()):
        middle = (low + high) // 2
        enough = left(place < middle[:, None]).sum(1) >= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return place < high[:, None]


def exactly(chosen: Tensor, others: Tensor, relevance: Tensor, count: int) -> Tensor:
    """``count`` tokens of each image, [B, N] bool: the most relevant of ``chosen``, then of ``others``.

    Args:
        chosen: [B, N] bool.
        others: [B, N] bool; together with the chosen ones at least ``count``.
        relevance: [B, N]; ties: the lower index first.
        count: At most N.
    """
    preference = chosen.long() * 2 + (others & ~chosen).long()
    order = places(preference, relevance).argsort(dim=1)
    return to_mask(order[:, :count], chosen.shape[1])
