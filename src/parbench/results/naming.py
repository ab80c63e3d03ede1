"""What runs and samples are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cell_name(method: str, budget: float | None) -> str:
    """What a method at a budget is called."""
    return method if budget is None else f"{method} @{budget:g}"


def row_name(settings: Mapping[str, Any], *details: str) -> str:
    """What a row of a table is called: the method at its budget, in brackets how that is kept and what else tells it apart.

    Args:
        settings: The method's fields.
        details: Such as ``edge_threshold=0.5``.
    """
    said = [*(["per image"] if settings.get("per_image") else []), *details]
    name = cell_name(settings["name"], settings.get("budget"))
    return f"{name} ({', '.join(said)})" if said else name


def sample_id(task: str, number: int) -> str:
    """Name of a question: its task, and its row in the whole data set."""
    return f"{task}-{number}"


def sample_number(name: str) -> int:
    """The row in the whole data set of the question with this name."""
    return int(name.rpartition("-")[2])
