"""Whether a method's settings are of the kinds that its class declares."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from parbench.errors import ParbenchError

# What a method's field may hold, by how its class declares it.
_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "list[float]": (list,),
}


def check_fields(kind: Any, settings: Mapping[str, Any]) -> None:
    """Refuse a value of the wrong kind.

    Args:
        kind: The method's class.
        settings: Its fields by name, as the YAML or a person gives them; missing ones have the class's default.

    Raises:
        ParbenchError: A field holds a value of another kind than its class declares.
    """
    for field in dataclasses.fields(kind):
        declared = str(field.type).split(" | ")
        allowed = tuple(found for name in declared for found in _KINDS.get(name, ()))
        value = settings.get(field.name, field.default)
        # A bool is an int to Python, and a budget is checked with the model at hand.
        right = isinstance(value, allowed) and not (isinstance(value, bool) and bool not in allowed)
        if field.name != "budget" and allowed and not right and not (value is None and "None" in declared):
            raise ParbenchError(
                f"method.{field.name}={value} of {settings.get('name')} is of the wrong kind: it takes {field.type}"
            )
