"""Which methods, and which of their budgets, go together in a composed method."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from parbench.errors import ParbenchError
from parbench.reducers import FeedForwardReducer, KeyReducer, LayerReducer, MaskReducer, Reducer

if TYPE_CHECKING:
    from parbench.reducers.pair import Pair

# Sites of methods that can come first.
_BEFORE = ("pixels", "tower", "tokens")
# Why methods at the other sites cannot, as the end of a sentence about one.
_INSIDE = {
    LayerReducer.site: "drops its tokens inside the LLM, where only the second part can",
    FeedForwardReducer.site: (
        "also acts inside the LLM, where some of its tokens skip the MLPs of layers in which a second part would drop tokens"
    ),
    KeyReducer.site: "chooses keys inside the LLM and lets all tokens enter",
    MaskReducer.site: "masks attention inside the LLM and lets all tokens enter",
}


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
    if part.site in _BEFORE:
        return "has every patch in the attention of the LLM, though it merges them"
    return _INSIDE.get(part.site, f"acts at the site {part.site}, and only methods at {', '.join(_BEFORE)} can come first")


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


def check_budgets(pair: Pair) -> None:
    """Refuse budgets that a composed method and its parts cannot have together on any model.

    Raises:
        ParbenchError: The message says which budget to use.
    """
    if pair.per or any(part.per for part in pair.parts):
        raise ParbenchError(f"a budget for each frame is not defined for {pair.name}, which is composed of two: give a ratio")
    average, before, inside = pair.budget, pair.before.budget, pair.inside.budget
    if average is not None and inside not in (None, average):
        raise ParbenchError(
            f"budget={average} and method.inside.budget={inside} of {pair.name} are the same average over the layers: leave "
            f"method.inside.budget out, or set budget={inside}"
        )
    average = inside if average is None else average
    alike = average is not None and before is not None and (average < 1) == (before < 1)
    if average is not None and before is not None and alike and before < average:
        raise ParbenchError(
            f"method.before.budget={before} of {pair.name} is less than budget={average}, the average over the layers: no more "
            f"tokens than enter the LLM are in its layers, so use method.before.budget={average} or more"
        )
