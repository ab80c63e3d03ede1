"""Which methods others are compared with, and which runs are of a control."""

from __future__ import annotations

import pandas as pd

from parbench.results.record import RunMetrics

# At the same budget.
CONTROLS = ("random", "uniform", "pool", "downsample")
# Controls of parbench that stand for a part of a method rather than for knowing nothing: no others are compared with them.
_PARTS = ("none", "random-in-llm", "first-n", "cls-topk", "cls-topk-mean")
# The controls of runs from before metrics.json said whether the method is one; this list does not grow.
_OLD = (*CONTROLS, *_PARTS)


def is_control(metrics: RunMetrics) -> bool:
    """Whether the method of a run is a control, as the run's record says."""
    return metrics.method in _OLD if metrics.control is None else metrics.control


def compared_with(runs: pd.DataFrame) -> tuple[str, ...]:
    """The methods that others are compared with at the same budget: parbench's, and controls of one's own among some runs.

    Args:
        runs: With the columns ``method`` and ``control``.
    """
    found = set(runs["method"][runs["control"].astype(bool)])
    return (*CONTROLS, *sorted(found - {*CONTROLS, *_PARTS}))
