"""Base class of methods that drop visual tokens inside the LLM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.reducers.base import Reducer, one_of

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.layer_probes import View


@dataclass(frozen=True)
class Choice:
    """The visual tokens that a stage keeps of E images.

    Attributes:
        keep: [E, N] bool, the kept tokens.
        scores: [E, N] the scores that were ranked, or None.
        merge: [E, C, N] weights of merged tokens, which follow the kept ones, or None.
        merged: [E] number of merged tokens of each image, or None.
        into: [E, N] the kept token that becomes the mean of those merged into it, in its place: a kept one's own index, -1 for a
            token that is dropped. None if nothing is merged so.
    """

    keep: Tensor
    scores: Tensor | None = None
    merge: Tensor | None = None
    merged: Tensor | None = None
    into: Tensor | None = None

    @property
    def members(self) -> Tensor:
        """[E, N] number of tokens that each kept token is the mean of, itself included; 0 for others."""
        if self.into is None:
            return self.keep.long()
        return torch.zeros_like(self.into).scatter_add(1, self.into.clamp(min=0), (self.into >= 0).long())

    @staticmethod
    def best(view: View, scores: Tensor, count: int | Tensor) -> Choice:
        """Keep the ``count`` tokens (a number, or one per image [E]) with the highest scores [E, N]. Ties: lower index first."""
        valid = view.valid
        order = scores.masked_fill(~valid, float("-inf")).argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)
        limit = torch.as_tensor(count, device=rank.device).expand(len(rank))
        return Choice((rank < limit[:, None]) & valid, scores)


@dataclass
class LayerReducer(Reducer):
    """Drops visual tokens inside the LLM, in stages before some of its layers.

    Class attributes:
        reads: Layers whose attention a stage reads, counted from its own: -1 is the one below.

    Attributes:
        positions: ``keep``: original position ids. ``compact``: position ids are renumbered consecutively after every stage; during
            decoding, each layer counts from the length of its own KV cache.
    """

    site = "layers"
    reads: ClassVar[tuple[int, ...]] = ()
    positions: str = "keep"

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(self, positions=("keep", "compact"))

    @abstractmethod
    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """0-based layers before which tokens are dropped, in ascending order, each at least 1."""

    @abstractmethod
    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens of an image after each stage.

        Raises:
            ParbenchError: The budget is out of reach, or the number depends on the image.
        """

    @abstractmethod
    def choose(self, view: View) -> Choice:
        """Choose the tokens to keep at a stage."""

    def by_layer(self, geometry: Geometry) -> list[int]:
        """Visual tokens of an image that enter each layer."""
        counts = [geometry.patches] * geometry.layers
        for layer, left in zip(self.stages(geometry), self.left(geometry), strict=True):
            counts[layer:] = [left] * (geometry.layers - layer)
        return counts

    def check(self, geometry: Geometry) -> None:
        """Refuse layers that the model lacks, and budgets that are missed by more than half a token on average."""
        asked, stages = self.asked(geometry), self.stages(geometry)
        if list(stages) != sorted(set(stages)) or (stages and not 1 <= stages[0] <= stages[-1] < geometry.layers):
            raise ParbenchError(
                f"the layers {', '.join(map(str, stages))} of method {self.name} are not possible: use ascending layers from 1 to "
                f"{geometry.layers - 1}"
            )
        if asked is None:
            return
        average = sum(self.by_layer(geometry)) / geometry.layers
        if abs(average - asked) > 0.5:
            raise ParbenchError(
                f"budget={asked} of method {self.name} is out of reach: the nearest average over the layers is {average:.1f}"
            )

    @property
    def compacts(self) -> bool:
        """Whether position ids are renumbered consecutively."""
        return self.positions == "compact"

    @property
    def cached(self) -> bool:
        """Whether decoding uses the KV cache of the reduced prompt. False: the whole sequence runs again for every token."""
        return True

    @property
    def masked(self) -> bool:
        """Whether dropped tokens are still computed and only masked in attention. They are counted as dropped."""
        return False

    @property
    def needs_words(self) -> bool:
        """Whether it needs the kinds of the text tokens, see :mod:`parbench.reducers.word_kinds`."""
        return False

    @property
    def weighs_sizes(self) -> bool:
        """Whether, from a stage on, attention logits to a merged token rise by the log of the number of tokens in it."""
        return False

    def entering(self, geometry: Geometry) -> Reducer | None:
        """The method that chooses the tokens that enter the LLM; None if all do."""
        return None
