"""Base class of methods that act between the vision tower and the LLM."""

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
        place: ``before_projector`` or ``after_projector``.
        positions: ``compact``: position ids are renumbered consecutively; ``keep``: tokens keep their original position ids.
        within: Where an image has several parts, such as crops: ``image`` reduces all of its tokens at once, ``part`` those of each
            part, with its share of the budget; None for the method's own.
    """

    site = "tokens"
    own_within: ClassVar[str] = "image"
    blocks: ClassVar[tuple[int, ...]] = ()

    place: str = "before_projector"
    positions: str = "compact"
    within: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(self, place=("before_projector", "after_projector"), positions=("compact", "keep"), within=(None, "image", "part"))

    @property
    def by_part(self) -> bool:
        """Whether the parts of an image are reduced one by one."""
        return (self.within or self.own_within) == "part"

    @abstractmethod
    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Reduce the tokens of a batch of images, each independently.

        Args:
            features: [B, N, d] at ``place``.
            probes: Further inputs for these B images.
        """
