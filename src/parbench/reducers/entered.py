"""How the second part of a composed method sees a model: with the visual tokens that the first part lets in."""

from __future__ import annotations

from dataclasses import dataclass, fields

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Reducer


@dataclass(frozen=True)
class Entered(Geometry):
    """The sizes of an image of which some visual tokens enter the LLM.

    Attributes:
        usual: Those of an image of the usual size; None for this one.
    """

    usual: Geometry | None = None

    @property
    def any_image(self) -> Geometry:
        """The sizes that are the same for all images."""
        return self.usual or self


def entered(geometry: Geometry, tokens: int, usual: Geometry | None = None) -> Geometry:
    """The sizes of an image of which ``tokens`` visual tokens enter the LLM. The grid stays that of the patches they come from."""
    known = {one.name: getattr(geometry, one.name) for one in fields(Geometry)}
    return Entered(**{**known, "tokens": tokens}, usual=usual if geometry.varies else None)


def delivers(reducer: Reducer, geometry: Geometry) -> bool:
    """Whether a method accepts its budget on a model of these sizes."""
    try:
        reducer.check(geometry)
    except ParbenchError:
        return False
    return True
