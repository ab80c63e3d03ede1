"""Base class of methods that rank visual tokens by the attention of CLS, and what takes its place in towers without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from parbench.reducers import TokenReducer, one_of


@dataclass
class AttendedReducer(TokenReducer):
    """Ranks visual tokens by the attention of CLS in a block of the vision tower.

    Attributes:
        attention: ``received`` for towers without CLS: the attention that a token receives, mean over all queries. Where the
            connector joins patches, that of a token is the mean over its patches. None: ``cls``, that of CLS.
    """

    needs = frozenset({"cls"})
    substitutes: ClassVar = {**TokenReducer.substitutes, "cls": {"attention": "received"}}

    attention: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, attention=(None, "cls", "received"))

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: with ``received``, a tower without CLS."""
        found = super().wants
        return found - {"cls"} | {"received"} if self.attention == "received" else found
