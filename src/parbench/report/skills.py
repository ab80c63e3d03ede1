"""The skills heat map of a report: accuracy and retained accuracy of each run on each skill."""

from __future__ import annotations

from typing import Any

import numpy as np

from parbench.figures.sweep import Sweep
from parbench.report.rows import number
from parbench.statistics.bootstrap import Estimate, resample
from parbench.statistics.measures import mean_of


def skills(sweep: Sweep) -> dict[str, Any] | None:
    """For each run and skill [accuracy, low, high, retained, low, high] in percent; None if the questions have no skills."""
    names = list(sweep.comparison.skills)
    if not names:
        return None
    answers, asked = sweep.answers, sweep.answers.questions_column("skill")
    resampled = resample([mean_of(answers, answers.score, asked == name) for name in names])
    unreduced = np.flatnonzero(sweep.points["method"] == "none")
    none = int(unreduced[0]) if len(unreduced) else None

    def retained(skill: int, run: int) -> list[float | int | None]:
        return _ends(None if none is None or run == none else resampled[skill].against(run, none, np.divide))

    cells = [
        [[*_ends(resampled[skill].of(run)), *retained(skill, run)] for skill in range(len(names))]
        for run in range(len(sweep.points))
    ]
    return {"names": names, "counts": list(sweep.comparison.skills.values()), "cells": cells}


def _ends(estimate: Estimate | None) -> list[float | int | None]:
    """A number and the ends of its interval in percent, rounded to two digits."""
    values = (np.nan, np.nan, np.nan) if estimate is None else (estimate.point, *estimate.interval())
    return [number(round(100 * value, 2)) for value in values]
