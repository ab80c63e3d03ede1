"""Builds methods from their settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parbench.config.classes import built, class_of
from parbench.config.fields import check_fields
from parbench.errors import ParbenchError
from parbench.reducers.budget import check_budget, split

if TYPE_CHECKING:
    from parbench.reducers import Reducer


def reducer_of(settings: Mapping[str, Any]) -> Reducer:
    """The method of some settings.

    Args:
        settings: Its fields, and its class as ``_target_``. A field with a ``_target_`` of its own is a part of the method.

    Raises:
        ParbenchError: A field's value is invalid, or a class cannot be imported.
    """
    method = str(settings.get("name"))
    fields = {key: value for key, value in settings.items() if key not in ("_target_", "style")}
    number, per = split(fields.get("budget"))
    if per:
        fields |= {"budget": number, "per": per}
    kind = class_of(settings.get("_target_"), method)
    check_fields(kind, fields)
    for key, value in fields.items():
        if isinstance(value, Mapping) and "_target_" in value:
            fields[key] = _part(key, value)
    found: Reducer = built(kind, fields, method)
    return found


def _part(role: str, settings: Mapping[str, Any]) -> Reducer:
    """A part of a method. Errors name its fields as ``method.ROLE.FIELD``."""
    check_budget(settings.get("budget"), f"method.{role}.budget")
    try:
        return reducer_of(settings)
    except ParbenchError as error:
        raise ParbenchError(re.sub(r"\bmethod\.(?=\w+=)", f"method.{role}.", str(error))) from error
