"""The runs that a command asks for, each planned once: its method, built and held against the sizes of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from parbench.config import build_reducer
from parbench.errors import ParbenchError
from parbench.results.naming import row_name

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.models.geometry import Geometry
    from parbench.reducers import Reducer


@dataclass(frozen=True)
class Cell:
    """A method at a budget.

    Attributes:
        method: Its configuration.
        budget: Instead of the configuration's own; None leaves that.
        required: Whether it is an error if the model cannot have it; else it is skipped with a warning.
        label: What the table calls it; empty for the method's name.
    """

    method: DictConfig
    budget: int | float | None
    required: bool = False
    label: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """A run that is asked for, as far as it is known without weights.

    Attributes:
        cell: What is asked for.
        name: What tables and messages call it.
        reducer: The method without its threshold, its budget in tokens where the model's sizes are known; None where it is refused.
        refusal: Why the model cannot have it; None where it can.
    """

    cell: Cell
    name: str
    reducer: Reducer | None
    refusal: ParbenchError | None = None


def plan(session: Session, cells: Sequence[Cell], geometry: Geometry | None) -> list[PlannedRun]:
    """The runs that are asked for, in order.

    Args:
        session: Model and data set.
        cells: What is asked for.
        geometry: The model's sizes; None where they are not known yet, so that nothing is refused for them.

    Raises:
        ParbenchError: A required one is impossible.
    """
    return [_planned(session, cell, geometry) for cell in cells]


def _planned(session: Session, cell: Cell, geometry: Geometry | None) -> PlannedRun:
    name = cell.label or str(cell.method.name)
    try:
        reducer = build_reducer(cell.method, cell.budget)
        name = cell.label or row_name(reducer.settings())
        if geometry is not None:
            reducer = for_sizes(reducer, geometry)
            session.check_clip(reducer)
    except ParbenchError as error:
        if cell.required:
            raise
        return PlannedRun(cell, name, None, error)
    return PlannedRun(cell, cell.label or row_name(reducer.settings()), reducer)


def for_sizes(reducer: Reducer, geometry: Geometry) -> Reducer:
    """A method with its budget in tokens: 0.111 and 64 of 576 are one run.

    Raises:
        ParbenchError: The method cannot deliver its budget on a model of these sizes.
    """
    reducer.check(geometry)
    return dataclasses.replace(reducer, budget=reducer.asked(geometry))
