"""Names of runs and samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Fields that change what a method is where a model lacks something, and what a name says before their value.
_SUBSTITUTES = {"attention": "", "within": "within=", "separators": "separators="}


def cell_name(method: str, budget: float | None) -> str:
    """The name of a method at a budget."""
    return method if budget is None else f"{method} @{budget:g}"


def row_name(settings: Mapping[str, Any], *details: str) -> str:
    """The name of a table row: the method at its budget, followed in brackets by how the budget is kept and other details.

    Args:
        settings: The method's fields.
        details: Further details that distinguish the row, such as ``edge_threshold=0.5``.
    """
    # A composed method has the settings of its parts.
    parts = [settings, *(value for value in settings.values() if isinstance(value, Mapping))]
    substitutes = [f"{word}{part[field]}" for part in parts for field, word in _SUBSTITUTES.items() if part.get(field)]
    if any(part.get("space") == "llm" for part in parts):
        substitutes.append("llm")
    substitutes += ["untrained"] if any(part.get("untrained") for part in parts) else []
    said = [*(["per image"] if settings.get("per_image") else []), *substitutes, *details]
    name = cell_name(settings["name"], settings.get("budget")) + (f"/{settings['per']}" if settings.get("per") else "")
    return f"{name} ({', '.join(said)})" if said else name


def series_name(label: str) -> str:
    """The name of a row without its budget, which the runs of a method at several budgets share."""
    return re.sub(r" @[\d.e+-]+", "", label, count=1)


def sample_id(task: str, number: int) -> str:
    """The id of a question: its task, and its row in the whole data set."""
    return f"{task}-{number}"


def sample_number(name: str) -> int:
    """The row in the whole data set of a question, from its id."""
    return int(name.rpartition("-")[2])
