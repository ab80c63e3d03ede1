"""What a reducer gives back: tokens, and which patches each of them comes from."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from parbench.ops.selection import compact, gather


@dataclass(frozen=True)
class Provenance:
    """Which patches each output token of each image comes from, with which weights.

    Attributes:
        token: [E] number of the output token within its image.
        patch: [E] raster index of the patch.
        weight: [E] its weight in that token.
        image: [E] number of the image in the batch.
    """

    image: Tensor
    token: Tensor
    patch: Tensor
    weight: Tensor

    def of(self, image: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token, patch and weight of one image's entries."""
        mine = self.image == image
        return self.token[mine], self.patch[mine], self.weight[mine]

    @staticmethod
    def from_dense(weights: Tensor, counts: Tensor) -> Provenance:
        """From dense weights [B, K, N]; rows beyond an image's count do not enter."""
        valid = torch.arange(weights.shape[1], device=weights.device)[None] < counts[:, None]
        image, token, patch = ((weights != 0) & valid[..., None]).nonzero(as_tuple=True)
        return Provenance(image, token, patch, weights[image, token, patch])


@dataclass(frozen=True)
class Reduction:
    """What a reducer made of the visual tokens of a batch of images.

    Attributes:
        tokens: [B, K, d], raster order unless the method says otherwise, padded at the end.
        counts: [B] tokens of each image.
        provenance: Where they come from.
        stages: Tokens left after each named stage of the method, [B] each.
    """

    tokens: Tensor
    counts: Tensor
    provenance: Provenance
    stages: dict[str, Tensor] = field(default_factory=dict)

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
        """All tokens of ``features`` [B, N, d], unchanged: what keeping everything has to be."""
        return Reduction.select(features, torch.ones(features.shape[:2], dtype=torch.bool, device=features.device))

    @staticmethod
    def mix(features: Tensor, weights: Tensor, counts: Tensor, stages: dict[str, Tensor] | None = None) -> Reduction:
        """Tokens as weighted sums of patches: weights [B, K, N] over features [B, N, d]."""
        tokens = (weights @ features.double()).to(features.dtype)
        return Reduction(tokens, counts, Provenance.from_dense(weights, counts), stages or {})
