"""Whether a model has what a method needs, and what takes its place where it has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parbench.errors import ParbenchError
from parbench.models.offers import OFFERS
from parbench.reducers.budget import check_budget

# A share of the tokens that every method can keep on average.
_ANY_SHARE = 0.5

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.base import Reducer


def check_model(reducer: Reducer, geometry: Geometry) -> None:
    """Refuse a model that lacks what a method needs, and a budget that it cannot deliver on the model.

    Args:
        reducer: The method.
        geometry: The model's sizes. Where images differ in their number of tokens, the budget is checked at 576 tokens.

    Raises:
        ParbenchError: The message names the field that makes the method run on the model, if there is one.
    """
    if why := refusal(reducer, geometry):
        raise ParbenchError(why)
    if geometry.varies and reducer.site == "layers" and isinstance(reducer.budget, int):
        check_budget(reducer.budget)
        # Whether a number of tokens is within reach inside the LLM depends on the image.
        reducer = reducer.with_budget(_ANY_SHARE)
    reducer.check(geometry.any_image)


def refusal(reducer: Reducer, geometry: Geometry) -> str | None:
    """Why a method cannot run on a model, whatever its budget, in one sentence; None if it can."""
    lacking = missing(reducer, geometry)
    if not lacking:
        return None
    what = " and ".join(OFFERS.get(name, name) for name in lacking)
    said = f"method {reducer.name} needs {what}, which {geometry.family} does not have"
    if fields := substitute(reducer, geometry):
        settings = " ".join(f"method.{name}={_written(value)}" for name, value in fields.items())
        return f"{said}: use {settings}"
    return f"{said}: use another method (docs/families.md has the table)"


def missing(reducer: Reducer, geometry: Geometry) -> list[str]:
    """What a method needs with its settings and a model does not have, in the order of ``OFFERS``."""
    lacking = reducer.wants - geometry.offers
    return [name for name in OFFERS if name in lacking] + sorted(lacking - set(OFFERS))


def substitute(reducer: Reducer, geometry: Geometry) -> dict[str, Any]:
    """The fields with which a method runs on a model that lacks something; empty if there are none."""
    known = {name: value for need in missing(reducer, geometry) for name, value in reducer.substitutes.get(need, {}).items()}
    return known if known and not missing(reducer.with_fields(known), geometry) else {}


def _written(value: Any) -> str:
    """A value as on a command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(list(value)) if isinstance(value, list | tuple) else f"{value:g}" if isinstance(value, float) else str(value)
