"""Names of composed methods: ``a+b`` is method a before the LLM and method b inside it, as if a YAML of that name held both."""

from __future__ import annotations

from typing import Any

import yaml

from parbench.config.groups import names, option_file
from parbench.errors import ParbenchError, unknown

SIGN = "+"
# The average over the layers that is kept if no budget is given.
_BUDGET = 64


def check_method(name: str, what: str = "method") -> None:
    """Refuse a name that is neither a method's nor that of two methods.

    Args:
        name: Such as ``visionzip`` or ``visionzip+fastv``.
        what: What it is called in the message.

    Raises:
        ParbenchError: A method is unknown, or the name does not have two parts.
    """
    known = names("method")
    if name in known or SIGN not in name:
        if name not in known:
            raise unknown(what, name, known)
        return
    parts = name.split(SIGN)
    if len(parts) != 2 or not all(parts):
        raise ParbenchError(
            f"{what} {name} does not have two parts: name one that acts before the LLM and one inside it, such as visionzip+fastv"
        )
    for part in parts:
        if part not in known:
            raise unknown(f"method in {name}", part, known)


def is_composed(name: str) -> bool:
    """Whether a name is that of two known methods, and of no single one."""
    known = names("method")
    parts = name.split(SIGN)
    return name not in known and len(parts) == 2 and all(part in known for part in parts)


def settings_of(name: str) -> dict[str, Any]:
    """What the YAML of a composed method would hold, with references to other groups as they are written.

    Raises:
        ParbenchError: The file of a part cannot be read.
    """
    before, inside = (_part(part) for part in name.split(SIGN))
    # A budget of the second part is the same average, so it takes the default's place.
    budget = f"${{parbench.choose:${{method.inside.budget}},null,{_BUDGET}}}"
    kind = "parbench.reducers.composed.Composed"
    return {"_target_": kind, "name": name, "budget": budget, "before": before, "inside": inside}


def _part(name: str) -> dict[str, Any]:
    """The YAML of a part without its style, and without its budget, which follows from that of the whole."""
    file = option_file("method", name)
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8")) if file else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ParbenchError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{file} holds no fields: write one a line, such as name: {name}")
    # A mean over images would not tell the second part how many tokens come in.
    exact = {"per_image": True} if "per_image" in found else {}
    return {**{key: value for key, value in found.items() if key != "style"}, **exact, "budget": None}
