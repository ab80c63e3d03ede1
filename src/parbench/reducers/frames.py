"""The frames of one clip, as methods for videos see them, and the tokens that such a method makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import UnfitSample
from parbench.models.counting import add_flops
from parbench.models.geometry import Geometry
from parbench.models.parts import Parts
from parbench.models.source import are_frames
from parbench.reducers.provenance import Origin, Provenance, Reduction
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Entries of a mixture that are summed at once, which bounds its memory.
_AT_ONCE = 1 << 16


class Frames:
    """The frames of one clip of a batch.

    Args:
        tokens: [F, N, d] the visual tokens, frame after frame, in raster order.
        probes: Those of the batch.
        row: The clip's index in the batch.
    """

    def __init__(self, tokens: Tensor, probes: Probes, row: int) -> None:
        self.tokens, self._probes, self._row = tokens, probes, row

    @property
    def count(self) -> int:
        """Number of frames, F. In models that join frames, such as the Qwen models, of joined ones."""
        return self.tokens.shape[0]

    @property
    def size(self) -> int:
        """Tokens of a frame, N."""
        return self.tokens.shape[1]

    @property
    def geometry(self) -> Geometry:
        """The sizes of the model, and of these frames in it."""
        return self._probes.geometry

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the tokens of a frame."""
        part = self._probes.parts.parts[0]
        return part.rows, part.columns

    @cached_property
    def wide(self) -> Tensor:
        """[F, N, d] the tokens in float64."""
        return self.tokens.double()

    @cached_property
    def unit(self) -> Tensor:
        """[F, N, d] the tokens in float64, of length 1."""
        return F.normalize(self.wide, dim=-1)

    @cached_property
    def same_place(self) -> Tensor:
        """[F-1, N] cosine of each token of a frame and the one at its place in the next frame."""
        return cosines(self.unit[:-1], self.unit[1:])

    @cached_property
    def attention(self) -> Tensor:
        """[F, N] in float64, the attention to each token in the block that the LLM reads, mean over heads.

        It is that of CLS. In towers without CLS it is the attention that a token receives, mean over the queries of its frame.
        """
        return self._probes.saliency(READ_BLOCK)[self._row].mean(0).view(self.count, self.size)

    @cached_property
    def vectors(self) -> Tensor:
        """[F, d] in float64, a vector for each frame."""
        return self._probes.frame_vectors(self.tokens, self._row).double()

    def noise(self, seed: int | None, step: int, count: int) -> Tensor | None:
        """[count] float32, uniform random numbers for a step of the method; None without a seed."""
        if seed is None:
            return None
        return self._probes.draw(self._row, seed, step, count).float().to(self.tokens.device)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Products [...] of vectors [..., d] of length 1, counted as method overhead."""
    add_flops(2 * one.numel())
    return (one * other).sum(-1)


@dataclass(frozen=True)
class Sent:
    """The tokens that a method makes of a clip, in any order.

    Attributes:
        origin: The tokens of the clip that each comes from, as indices frame x N + place. Each (token, patch) is there once.
        place: [K] the index at which each token is sent.
        stages: Tokens after each named stage of the method.
    """

    origin: Origin
    place: Tensor
    stages: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def unchanged(cls, index: Tensor) -> Sent:
        """The tokens at ``index`` [K]."""
        weight = torch.ones(len(index), dtype=torch.float64, device=index.device)
        return cls(Origin(torch.arange(len(index), device=index.device), index, weight), index)

    @classmethod
    def mixed(cls, place: Tensor, token: Tensor, patch: Tensor, weight: Tensor) -> Sent:
        """Weighted sums of tokens.

        Args:
            place: [K] the index at which each is sent.
            token: [E] which of them an entry belongs to.
            patch: [E] a token of the clip.
            weight: [E] its weight; those of one token and patch are added up.
        """
        most = int(patch.max()) + 1 if len(patch) else 1
        key, entry = (token * most + patch).unique(return_inverse=True)
        total = torch.zeros(len(key), dtype=torch.float64, device=key.device).index_add(0, entry, weight.double())
        return cls(Origin(key // most, key % most, total), place)

    def ordered(self) -> Sent:
        """The same tokens by place; those at one place in their order."""
        order = self.place.argsort(stable=True)
        token, patch, weight = self.origin
        token = order.argsort()[token]
        by_token = token.argsort(stable=True)
        return Sent(Origin(token[by_token], patch[by_token], weight[by_token]), self.place[order], self.stages)

    def values(self, tokens: Tensor) -> Tensor:
        """[K, d] the tokens, from those of the clip [P, d]. A token of one patch with weight 1 is that patch, bit for bit."""
        token, patch, weight = self.origin
        found = torch.zeros(len(self.place), tokens.shape[1], dtype=torch.float64, device=tokens.device)
        for rows in torch.arange(len(token), device=token.device).split(_AT_ONCE):
            found.index_add_(0, token[rows], tokens[patch[rows]].double() * weight[rows, None])
        add_flops(2 * tokens.shape[1] * int((weight != 1).sum()))
        return found.to(tokens.dtype)


def together(sent: Sequence[Sent]) -> Sent:
    """Tokens of several steps of a method as one, one step after the other."""
    before, origins = 0, []
    for one in sent:
        origins.append(one.origin._replace(token=one.origin.token + before))
        before += len(one.place)
    origin = Origin(*(torch.cat(values) for values in zip(*origins, strict=True)))
    return Sent(origin, torch.cat([one.place for one in sent]))


def batched(features: Tensor, sent: Sequence[Sent]) -> Reduction:
    """The tokens of the clips of a batch [B, P, d] as a reduction."""
    values = [one.values(tokens) for one, tokens in zip(sent, features, strict=True)]
    tokens = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
    counts = torch.tensor([len(one.place) for one in sent], device=features.device)
    image = torch.cat([torch.full_like(one.origin.token, row) for row, one in enumerate(sent)])
    token, patch, weight = (torch.cat(values) for values in zip(*(one.origin for one in sent), strict=True))
    stages = {name: torch.tensor([one.stages[name] for one in sent], device=features.device) for name in sent[0].stages}
    return Reduction(tokens, counts, Provenance(image, token, patch, weight), stages)


def clip_shape(parts: Parts, method: str) -> tuple[int, int]:
    """Number of frames of a clip, and of tokens of each.

    Raises:
        UnfitSample: It is a still image, or its frames differ in their tokens.
    """
    if not are_frames(parts.parts):
        raise UnfitSample(
            f"method {method} compares the frames of a video, and this input is a still image: use data with videos, or a "
            "method for images such as divprune"
        )
    sizes = set(parts.sizes)
    if len(sizes) > 1:
        raise UnfitSample(
            f"method {method} compares the same place in all frames, and this video has frames of {min(sizes)} to {max(sizes)} "
            "visual tokens: give it frames of one size"
        )
    return len(parts.parts), parts.sizes[0]
