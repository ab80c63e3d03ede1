"""One method against every other at the same budget, and the tokens that each needs for the accuracy of the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parbench.errors import ParbenchError, unknown
from parbench.statistics.bootstrap import Estimate
from parbench.statistics.matching import Needed, needed
from parbench.statistics.significance import holm
from parbench.tables.measured import Measured


@dataclass(frozen=True)
class Rival:
    """A method that another one is compared with at a budget.

    Attributes:
        place: The place of its run.
        difference: The compared method minus this one, paired.
        p: p-value for a difference of zero, after Holm's correction over the rivals.
        ours: The tokens at which the compared method is as accurate as this one is at the budget.
        theirs: The tokens at which this method is as accurate as the compared one is at the budget; None if this one was measured
            at one budget only.
    """

    place: int
    difference: Estimate
    p: float
    ours: Needed
    theirs: Needed | None


def rivals(of: Measured, series: str, budget: float, *, trained: bool = False) -> list[Rival]:
    """Compare a method with all others at a budget, most accurate first.

    Args:
        of: The runs.
        series: The method, as its rows are called without their budget, such as ``par (per image)``.
        budget: The budget.
        trained: Whether to compare with learned methods, which are a family of their own, instead of the others.

    Raises:
        ParbenchError: The method was not run at the budget, or there is no unreduced run.
    """
    mine = run_of(of, series, budget)
    method = of.runs["method"].iloc[mine]
    others = [place for place in of.at(budget, trained=trained) if of.runs["method"].iloc[place] != method]
    found = [of.score.against(mine, place) for place in others]
    corrected = holm([one.p_value() for one in found])
    compared = [
        Rival(place, difference, p, _tokens(of, mine, place), _tokens(of, place, mine) if _several(of, place) else None)
        for place, difference, p in zip(others, found, corrected, strict=True)
    ]
    return sorted(compared, key=lambda rival: -of.score.point[rival.place])


def run_of(of: Measured, series: str, budget: float) -> int:
    """The place of a method's run at a budget.

    Raises:
        ParbenchError: There is no such run.
    """
    if series not in set(of.runs["series"]):
        raise unknown("method of these runs", series, set(of.runs["series"]))
    place = of.place(series, budget)
    if place is None:
        there = sorted(of.runs.loc[of.runs["series"] == series, "budget"].dropna(), reverse=True)
        raise ParbenchError(f"{series} was not run at a budget of {budget:g}: there are {', '.join(f'{one:g}' for one in there)}")
    return place


def _several(of: Measured, place: int) -> bool:
    return bool(of.runs.loc[of.runs["series"] == of.runs["series"].iloc[place], "budget"].notna().sum() > 1)


def _tokens(of: Measured, curve: int, goal: int) -> Needed:
    """The tokens at which the method of one run, at all its budgets and unreduced, is as accurate as another run."""
    runs = of.runs
    same = (runs["series"] == runs["series"].iloc[curve]) & runs["budget"].notna()
    same.iloc[of.none] = True
    places = np.flatnonzero(same)
    places = places[np.argsort(runs["tokens_mean"].to_numpy()[places], kind="stable")]
    tokens = runs["tokens_mean"].to_numpy(dtype=float)[places].tolist()
    freedom = int(min(of.score.freedom[[*places, goal]]))
    wanted = (float(of.score.point[goal]), of.score.draws[goal])
    return needed(tokens, of.score.point[places], of.score.draws[places], wanted, freedom)
