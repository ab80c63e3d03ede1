"""The site of methods that act between the vision tower and the LLM."""

from __future__ import annotations

from typing import Self

from parbench.engine.sites.base import Site, Wrapper
from parbench.models.geometry import Geometry
from parbench.reducers import TokenReducer


class TokenSite(Site[TokenReducer]):
    """Between the vision tower and the LLM, before or after the projector."""

    name = "tokens"
    own_work = ("reduce",)

    def __init__(self, reducer: TokenReducer, geometry: Geometry) -> None:
        super().__init__(reducer, geometry)
        self.between = reducer

    @property
    def shares_beginnings(self) -> bool:
        """Yes: the visual tokens are final when they enter the LLM."""
        return True

    def wrapped(self, wrap: Wrapper) -> Self:
        """See :meth:`Site.wrapped`."""
        made = super().wrapped(wrap)
        made.between = made.reducer
        return made
