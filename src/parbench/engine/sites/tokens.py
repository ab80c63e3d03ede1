"""The site of methods that act between the vision tower and the LLM."""

from __future__ import annotations

from typing import Generic, Self, TypeVar, cast

from parbench.engine.sites.base import Site, Wrapper
from parbench.models.geometry import Geometry
from parbench.reducers import TokenReducer

Chosen_co = TypeVar("Chosen_co", bound=TokenReducer, covariant=True)


class TokenSite(Site[Chosen_co], Generic[Chosen_co]):
    """Between the vision tower and the LLM, before or after the projector."""

    name = "tokens"
    overhead_functions = ("reduce",)

    def __init__(self, reducer: Chosen_co, geometry: Geometry) -> None:
        super().__init__(reducer, geometry)
        self.between = reducer

    @property
    def shares_prefixes(self) -> bool:
        """True: the visual tokens do not change inside the LLM."""
        return True

    def with_budget(self, budget: int | None) -> Self:
        """See :meth:`Site.with_budget`; here the method is all there is."""
        made = super().with_budget(budget)
        if made is not self:
            made.reducer = cast(Chosen_co, made.between)
        return made

    def wrapped(self, wrap: Wrapper) -> Self:
        """See :meth:`Site.wrapped`."""
        made = super().wrapped(wrap)
        made.between = made.reducer
        return made
