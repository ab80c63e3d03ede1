"""What a sweep says of runs that it skips: one sentence for a method, with all budgets that are refused for the same reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

from parbench.harness.planned import PlannedRun

# How a refusal begins that is about the budget itself.
_BUDGET = re.compile(r"budget=(\S+)(?= of method )")


def skipped(planned: Sequence[PlannedRun]) -> list[str]:
    """A sentence for each reason why runs are refused, in the order of the first run of each.

    Args:
        planned: The runs, of which those without ``refusal`` are not skipped.
    """
    budgets: dict[tuple[str, bool], list[str]] = {}
    for run in planned:
        if run.refusal is None:
            continue
        reason, given = str(run.refusal), run.cell.budget
        # Refusals that name their budget are alike if the rest is.
        named = _BUDGET.match(reason)
        key = (reason, False) if named is None else (reason[named.end() :], True)
        budgets.setdefault(key, []).append(named[1] if named else "" if given is None else str(given))
    return [_sentence(reason, list(dict.fromkeys(those)), named=named) for (reason, named), those in budgets.items()]


def _sentence(reason: str, budgets: Sequence[str], *, named: bool) -> str:
    at = f"budget={', '.join(filter(None, budgets))}"
    if named:
        return f"skipped: {at}{reason}"
    return f"skipped at {at}: {reason}" if len(budgets) > 1 else f"skipped: {reason}"
