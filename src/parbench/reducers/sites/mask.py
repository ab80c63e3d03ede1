"""Methods that mask what visual tokens see and compute in the LLM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from parbench.errors import ParbenchError
from parbench.reducers.base import Reducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


@dataclass
class MaskReducer(Reducer):
    """Leaves every visual token where it is and masks, inside the LLM, what visual tokens see and compute.

    It is computed and then masked, but counted as if it were skipped.
    """

    site = "mask"
    takes_budget = False

    @property
    def note(self) -> str:
        """It is a simulation."""
        return "every token is computed and masked; FLOPs as if what is masked were skipped, seconds as measured"

    @abstractmethod
    def neighbours(self, geometry: Geometry) -> Tensor | None:
        """[N, N] bool: image keys that each image query of the same image sees; None leaves attention causal."""

    @abstractmethod
    def pruned(self, layer: int) -> list[int]:
        """Heads of a layer that see no image key and give image tokens nothing."""

    @abstractmethod
    def unseen(self, geometry: Geometry) -> int:
        """The layer from which no query sees an image key."""

    @abstractmethod
    def neurons(self, every: int) -> int:
        """Feed-forward neurons that image tokens use, of so many."""

    def check(self, geometry: Geometry) -> None:
        """Refuse budgets: nothing is dropped."""
        if self.asked(geometry) not in (None, geometry.patches):
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} has no use, since every token stays: leave budget=null"
            )
