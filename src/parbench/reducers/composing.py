"""The parts of composed methods: which go together, and how the second one sees a model."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import FeedForwardReducer, KeyReducer, LayerReducer, MaskReducer, Reducer

# Sites of methods that can come first.
_BEFORE = ("pixels", "tower", "tokens")


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


@contextmanager
def of_part(role: str, *, budget: bool = False) -> Iterator[None]:
    """Errors of a part name its fields as those of the part: ``method.inside.layer``.

    Args:
        role: ``before`` or ``inside``.
        budget: Whether its budget was given, so that the message is about ``method.before.budget``.
    """
    try:
        yield
    except ParbenchError as error:
        said = re.sub(r"\bmethod\.(?!before|inside)(?=\w+=)", f"method.{role}.", str(error))
        said = re.sub(r"(?<![.\w])budget=", f"method.{role}.budget=", said) if budget else said
        raise ParbenchError(said) from error


def _not_first(part: Reducer) -> str:
    """Why a method cannot come first, as the end of a sentence about it."""
    if part.title == "none":
        return "drops nothing"
    if part.site == LayerReducer.site:
        return "drops its tokens inside the LLM, where only the second part can"
    if part.site == FeedForwardReducer.site:
        return "also acts inside the LLM, where some of its tokens skip the MLPs of layers in which a second part would drop tokens"
    if part.site == KeyReducer.site:
        return "chooses keys inside the LLM and lets all tokens enter"
    if part.site == MaskReducer.site:
        return "masks attention inside the LLM and lets all tokens enter"
    return "has every patch in the attention of the LLM, though it merges them"


def check_parts(name: str, before: Any, inside: Any) -> None:
    """Refuse parts that cannot act one after the other.

    Raises:
        ParbenchError: The message names a combination that is possible.
    """
    for role, part in (("before", before), ("inside", inside)):
        if not isinstance(part, Reducer):
            raise ParbenchError(f"method.{role}={part} of {name} is not a method: write method=visionzip+fastv")
        if part.parts:
            raise ParbenchError(f"{part.name} of method {name} is composed itself: use one that is not, such as visionzip+fastv")
    drops_inside = inside.site == LayerReducer.site
    if before.site == LayerReducer.site and inside.site in _BEFORE:
        raise ParbenchError(
            f"method {name} has its parts in the wrong order, since {inside.name} acts before the LLM and {before.name} inside it: "
            f"write {inside.name}+{before.name}"
        )
    if before.site not in _BEFORE or getattr(before, "unmerges", False) or before.title == "none":
        why = _not_first(before)
        good = f"visionzip+{inside.name}" if drops_inside else "visionzip+fastv"
        raise ParbenchError(f"{before.name} cannot be the first part of method {name}, since it {why}: use one such as {good}")
    if not drops_inside:
        raise ParbenchError(
            f"{inside.name} cannot be the second part of method {name}, since it drops no tokens inside the LLM: use one such as "
            f"{before.name}+fastv"
        )
