"""The runs of a sweep: methods at budgets, with no reduction and the controls beside them."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig

from parbench.config import build_reducer
from parbench.harness.planned import Cell
from parbench.reducers.budget import Budget
from parbench.sweep.grid import other_method


def grid_cells(methods: Sequence[str], budgets: Sequence[Budget], controls: Sequence[str], words: list[str]) -> list[Cell]:
    """Each method at each budget.

    Args:
        methods: Names of those that are asked for.
        budgets: Visual tokens; None stands for a method's own rule, for those that are asked for and have one.
        controls: Names of those that run beside them.
        words: Overrides of everything else.
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
