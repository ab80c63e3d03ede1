"""Methods that act between the vision tower and the LLM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from parbench.reducers.base import Reducer, one_of
from parbench.reducers.provenance import Reduction

if TYPE_CHECKING:
    from parbench.reducers.token_probes import Probes


@dataclass
class TokenReducer(Reducer):
    """Acts on visual tokens between the vision tower and the LLM.

    Attributes:
        place: Before or after the projector.
        positions: ``compact``: the shortened sequence counts on without gaps; ``keep``: tokens keep their original positions.
    """

    site = "tokens"
    blocks: ClassVar[tuple[int, ...]] = ()

    place: str = "before_projector"
    positions: str = "compact"

    def __post_init__(self) -> None:
        """Refuse values that no reading of the method has."""
        one_of(self, place=("before_projector", "after_projector"), positions=("compact", "keep"))

    @abstractmethod
    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Reduce the tokens of a batch of images, each by itself.

        Args:
            features: [B, N, d] at ``place``.
            probes: What the method may look at for these B images.
        """
