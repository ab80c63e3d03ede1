"""What a sweep says of runs that it skips."""

from __future__ import annotations

from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.harness.planned import Cell, PlannedRun
from parbench.sweep.skips import skipped


def test_a_reason_is_said_once_with_its_budgets():
    method = compose_config(["method=downsample"]).method

    def refused(budget: float | None, why: str) -> PlannedRun:
        return PlannedRun(Cell(method, budget), "downsample", None, ParbenchError(why))

    runs = [
        refused(0.25, "it takes no videos"),
        refused(0.1, "it takes no videos"),
        refused(60, "budget=60 of method downsample is no grid: use 64"),
        refused(62, "budget=62 of method downsample is no grid: use 64"),
        refused(30, "budget=30 of method downsample is no grid: use 36"),
        refused(None, "there is no rule"),
        PlannedRun(Cell(method, 64), "downsample @64", None),
    ]
    assert skipped(runs) == [
        "skipped at budget=0.25, 0.1: it takes no videos",
        "skipped: budget=60, 62 of method downsample is no grid: use 64",
        "skipped: budget=30 of method downsample is no grid: use 36",
        "skipped: there is no rule",
    ]
