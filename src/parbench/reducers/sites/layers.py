"""Methods that drop visual tokens before layers of the LLM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.reducers.base import Reducer, one_of
from parbench.reducers.sites.tokens import TokenReducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.layer_probes import View


@dataclass(frozen=True)
class Choice:
    """What a stage leaves of the visual tokens of E images.

    Attributes:
        keep: [E, N] bool, the tokens that stay.
        scores: [E, N] what was ranked, if anything.
        merge: [E, C, N] weights of new tokens that come behind those that stay, or None.
        merged: [E] how many of them an image has.
    """

    keep: Tensor
    scores: Tensor | None = None
    merge: Tensor | None = None
    merged: Tensor | None = None

    @staticmethod
    def best(view: View, scores: Tensor, count: int | Tensor) -> Choice:
        """Keep the ``count`` best of each image by scores [E, N] (a number, or one an image [E]); ties: lower index."""
        valid = view.valid
        order = scores.masked_fill(~valid, float("-inf")).argsort(dim=1, descending=True, stable=True)
        rank = order.argsort(dim=1)
        limit = torch.as_tensor(count, device=rank.device).expand(len(rank))
        return Choice((rank < limit[:, None]) & valid, scores)


@dataclass
class LayerReducer(Reducer):
    """Drops visual tokens inside the LLM, in stages: before some layers, a part of what is left goes.

    Attributes:
        positions: ``keep`` (original position ids) or ``compact`` (counting on without gaps after every stage; while decoding, each
            layer counts from the length of its own cache).
    """

    site = "layers"
    positions: str = "keep"

    def __post_init__(self) -> None:
        """Refuse values that no reading of the method has."""
        one_of(self, positions=("keep", "compact"))

    @abstractmethod
    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The 0-based layers before which tokens are dropped, ascending, each at least 1."""

    @abstractmethod
    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Visual tokens of an image that enter the layer of each stage.

        Raises:
            ParbenchError: The budget is out of reach, or the method decides by the image.
        """

    @abstractmethod
    def choose(self, view: View) -> Choice:
        """What stays at a stage."""

    def by_layer(self, geometry: Geometry) -> list[int]:
        """Visual tokens of an image that enter each layer."""
        counts = [geometry.patches] * geometry.layers
        for layer, left in zip(self.stages(geometry), self.left(geometry), strict=True):
            counts[layer:] = [left] * (geometry.layers - layer)
        return counts

    def check(self, geometry: Geometry) -> None:
        """Refuse layers that the model lacks, and averages that whole tokens cannot meet to within half a token."""
        asked, stages = self.asked(geometry), self.stages(geometry)
        if list(stages) != sorted(set(stages)) or (stages and not 1 <= stages[0] <= stages[-1] < geometry.layers):
            raise ParbenchError(
                f"the layers {', '.join(map(str, stages))} of method {self.name} are no stages: use ascending layers from 1 to "
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
        """Whether positions count on without gaps."""
        return self.positions == "compact"

    @property
    def cached(self) -> bool:
        """Whether decoding goes on from the cache of a sequence that was reduced once (False: all anew for every token)."""
        return True

    @property
    def masked(self) -> bool:
        """Whether tokens are only hidden from attention and still computed; they then count as if they were gone."""
        return False

    def before(self, geometry: Geometry) -> TokenReducer | None:
        """The part of the method that acts before the LLM, for one that has two sites."""
        return None
