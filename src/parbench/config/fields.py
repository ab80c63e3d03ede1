"""Checks a method's settings against the fields and types of its class."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

from parbench.errors import ParbenchError, unknown

# Accepted types by declared type; unlike in Python, a bool does not count as an int.
_KINDS: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,), type(None): (type(None),)}
_SEQUENCES = (list, tuple, collections.abc.Sequence)


def check_fields(kind: Any, settings: Mapping[str, Any]) -> None:
    """Refuse unknown fields and values of the wrong type.

    Args:
        kind: The method's class.
        settings: Fields by name, from the YAML or the user; missing ones keep the class's default.

    Raises:
        ParbenchError: The class has no such field, or declares another type.
    """
    fields = [field.name for field in dataclasses.fields(kind) if field.init]
    hints, method = _hints(kind), settings.get("name")
    for name, value in settings.items():
        if name not in fields:
            raise unknown(f"field of method {method}", name, fields)
        # The budget is checked once the model is known.
        if name != "budget" and name in hints and not _right(value, hints[name]):
            said = inspect.formatannotation(hints[name])
            raise ParbenchError(f"method.{name}={value} of {method} is of the wrong kind: it takes {said}")


def _hints(kind: Any) -> dict[str, Any]:
    """The declared types, of classes with and without ``from __future__ import annotations``."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        try:
            found |= typing.get_type_hints(base)
        except (NameError, TypeError, AttributeError):
            # A name that exists only for type checkers.
            found |= {name: hint for name, hint in vars(base).get("__annotations__", {}).items() if not isinstance(hint, str)}
    return found


def _right(value: Any, hint: Any) -> bool:
    """Whether a value has a declared type; True if that cannot be decided."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_right(value, one) for one in inside)
    if origin is typing.Literal:
        return value in inside
    if origin in _SEQUENCES or hint in _SEQUENCES:
        of = inside[0] if inside else Any
        return isinstance(value, list | tuple) and all(_right(one, of) for one in value)
    allowed = _KINDS.get(hint)
    if allowed is None:
        return True
    return isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))
