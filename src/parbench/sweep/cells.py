"""The runs of a sweep: methods at budgets, plus the unreduced model and the controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from parbench.config import build_reducer
from parbench.errors import ParbenchError
from parbench.harness.planned import Cell
from parbench.reducers.budget import Budget
from parbench.reducers.needs import check_model
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


def grid_cells(methods: Sequence[str], budgets: Sequence[Budget], controls: Sequence[str], words: list[str]) -> list[Cell]:
    """Each method at each budget.

    Args:
        methods: Names of the requested methods.
        budgets: Visual tokens per image; None stands for a method's own rule, for requested methods that have one.
        controls: Names of the controls to run at the same budgets.
        words: Overrides of the rest of the configuration.
    """
    found: list[Cell] = []
    for name in dict.fromkeys(["none", *methods, *controls]):
        found += _of_method(other_method(name, words), budgets, asked=name in methods)
    return found


def _of_method(method: DictConfig, budgets: Sequence[Budget], *, asked: bool) -> list[Cell]:
    plain = build_reducer(method)
    if not plain.takes_budget:
        return [Cell(method, None)]
    own = [Cell(method, None)] if None in budgets and asked and plain.budget is None else []
    return [*(Cell(method, budget) for budget in budgets if budget is not None), *own]


def refuse_impossible(asked: Iterable[tuple[Geometry, Iterable[Cell]]]) -> None:
    """Refuse a budget that no method can have on any of the models. A cell that is impossible beside others is only skipped.

    Args:
        asked: The sizes of each model, and the cells that are asked of it.

    Raises:
        ParbenchError: Nothing would be measured at a budget; says why.
    """
    refused: dict[Budget | str, ParbenchError] = {}
    possible = set()
    for geometry, cells in asked:
        for cell in cells:
            try:
                check_model(build_reducer(cell.method, cell.budget), geometry)
                possible.add(cell.budget)
            except ParbenchError as error:
                refused.setdefault(cell.budget, error)
    for budget, refusal in refused.items():
        if budget not in possible:
            raise refusal
