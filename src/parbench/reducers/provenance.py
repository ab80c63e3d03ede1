"""The result of a reducer: tokens, and the patches that each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from parbench.ops.selection import compact, gather


class Origin(NamedTuple):
    """The visual tokens of one image that some tokens come from, as E entries.

    Attributes:
        token: [E] index of the token.
        patch: [E] raster index of the patch, or index of the visual token of an image that is no single grid.
        weight: [E] its weight in the token.
    """

    token: Tensor
    patch: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Provenance:
    """The patches that each output token comes from, as E entries (token, patch, weight).

    Attributes:
        token: [E] index of the output token within its image.
        patch: [E] raster index of the patch.
        weight: [E] weight of the patch in the token.
        image: [E] index of the image in the batch.
    """

    image: Tensor
    token: Tensor
    patch: Tensor
    weight: Tensor

    def of(self, image: int) -> Origin:
        """The entries of one image."""
        mine = self.image == image
        return Origin(self.token[mine], self.patch[mine], self.weight[mine])

    def of_images(self, images: Sequence[int]) -> Provenance:
        """The entries of some images, each of which may be there several times, numbered anew."""
        found = [self.of(image) for image in images]
        number = [torch.full_like(one.token, place) for place, one in enumerate(found)]
        return Provenance(*(torch.cat(list(values)) for values in (number, *zip(*found, strict=True))))

    @staticmethod
    def from_dense(weights: Tensor, counts: Tensor) -> Provenance:
        """From dense weights [B, K, N]; rows beyond the count [B] of an image are ignored."""
        valid = torch.arange(weights.shape[1], device=weights.device)[None] < counts[:, None]
        image, token, patch = ((weights != 0) & valid[..., None]).nonzero(as_tuple=True)
        return Provenance(image, token, patch, weights[image, token, patch])


@dataclass(frozen=True)
class Reduction:
    """The reduced visual tokens of a batch of images.

    Attributes:
        tokens: [B, K, d], padded at the end; in raster order unless the method documents another.
        counts: [B] tokens of each image.
        provenance: The patches that they come from.
        stages: Tokens after each named stage of the method, [B] each.
        measures: Other figures of an image by name, [B] each, such as the bits in which its tokens are coded.
    """

    tokens: Tensor
    counts: Tensor
    provenance: Provenance
    stages: dict[str, Tensor] = field(default_factory=dict)
    measures: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def select(features: Tensor, keep: Tensor, stages: dict[str, Tensor] | None = None) -> Reduction:
        """Keep the tokens of ``features`` [B, N, d] where ``keep`` [B, N] is True, in raster order, unchanged."""
        index, counts = compact(keep)
        valid = torch.arange(index.shape[1], device=index.device)[None] < counts[:, None]
        image, token = valid.nonzero(as_tuple=True)
        patch = index[image, token]
        weight = torch.ones(len(patch), dtype=torch.float64, device=index.device)
        return Reduction(gather(features, index), counts, Provenance(image, token, patch, weight), stages or {})

    @staticmethod
    def everything(features: Tensor) -> Reduction:
        """All tokens of ``features`` [B, N, d], unchanged."""
        return Reduction.select(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))

    @staticmethod
    def mix(features: Tensor, weights: Tensor, counts: Tensor, stages: dict[str, Tensor] | None = None) -> Reduction:
        """Tokens as weighted sums of patches: weights [B, K, N] over features [B, N, d]."""
        tokens = (weights @ features.double()).to(features.dtype)
        return Reduction(tokens, counts, Provenance.from_dense(weights, counts), stages or {})
