"""Base class of methods that act between the vision tower and the LLM."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from parbench.reducers.base import Reducer, one_of
from parbench.reducers.provenance import Reduction

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.token_probes import Probes


@dataclass
class TokenReducer(Reducer):
    """Acts on visual tokens between the vision tower and the LLM.

    Attributes:
        place: ``before_projector`` or ``after_projector``.
        positions: ``compact``: position ids are renumbered consecutively; ``keep``: tokens keep their original position ids.
        within: Where an image has several parts, such as crops: ``image`` reduces all of its tokens at once, ``part`` those of each
            part, with its share of the budget; None for the method's own.
        separators: Whether tokens that show nothing of an image, such as the newline at the end of a row, ``keep`` their places or
            are sent no more (``drop``) once the image is reduced; None for the method's own. They do not count in the budget.
    """

    site = "tokens"
    own_within: ClassVar[str] = "image"
    own_separators: ClassVar[str] = "keep"
    substitutes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"grid": {"within": "part"}}
    blocks: ClassVar[tuple[int, ...]] = ()

    place: str = "before_projector"
    positions: str = "compact"
    within: str | None = None
    separators: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(
            self,
            place=("before_projector", "after_projector"),
            positions=("compact", "keep"),
            within=(None, "image", "part"),
            separators=(None, "keep", "drop"),
        )

    @property
    def by_part(self) -> bool:
        """Whether the parts of an image are reduced one by one."""
        return (self.within or self.own_within) == "part"

    @property
    def drops_separators(self) -> bool:
        """Whether an image that is reduced loses its separators."""
        return (self.separators or self.own_separators) == "drop"

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: part by part, the grid of each part serves in place of a single one."""
        found = super().wants
        return found - {"grid"} | {"parts"} if "grid" in found and self.by_part else found

    def blocks_of(self, _geometry: Geometry) -> tuple[int, ...]:
        """The vision blocks whose attention or keys it uses, on a model of these sizes; ``READ_BLOCK`` is the family's own."""
        return self.blocks

    @abstractmethod
    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Reduce the tokens of a batch of images, each independently.

        Args:
            features: [B, N, d] at ``place``.
            probes: Further inputs for these B images.
        """
