"""Base class of methods that mask computation of visual tokens in the LLM."""

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
    """Keeps every visual token and masks, inside the LLM, parts of their attention and MLP.

    Masked parts are computed and then masked. FLOPs count them as skipped.
    """

    site = "mask"
    takes_budget = False
    needs = frozenset({"causal"})

    @property
    def note(self) -> str:
        """That this is a simulation."""
        return "everything is computed and then masked; FLOPs count masked parts as skipped, seconds are as measured"

    @abstractmethod
    def neighbours(self, geometry: Geometry) -> Tensor | None:
        """[N, N] bool: the visual keys to which each visual query of the same image attends; None: causal attention."""

    @abstractmethod
    def pruned(self, layer: int) -> list[int]:
        """Heads of a layer in which nothing attends to visual tokens, and which add nothing to visual tokens."""

    @abstractmethod
    def unseen(self, geometry: Geometry) -> int:
        """The layer from which on nothing attends to visual tokens."""

    @abstractmethod
    def neurons(self, every: int) -> int:
        """Number of the ``every`` MLP neurons that visual tokens use."""

    def check(self, geometry: Geometry) -> None:
        """Refuse budgets, as nothing is dropped."""
        if self.asked(geometry) not in (None, geometry.patches):
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} has no effect, since every token is kept: leave budget=null"
            )
