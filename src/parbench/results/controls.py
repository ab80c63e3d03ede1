"""The controls: methods that other methods are compared with at the same budget."""

from __future__ import annotations

import pandas as pd

from parbench.results.record import RunMetrics

# At the same budget.
CONTROLS = ("random", "uniform", "pool", "downsample")
# Controls that isolate a part of one method; other methods are not compared with them.
_PARTS = ("none", "random-in-llm", "first-n", "cls-topk", "cls-topk-mean")
# For runs whose metrics.json does not say yet whether the method is a control; this list is closed.
_OLD = (*CONTROLS, *_PARTS)


def is_control(metrics: RunMetrics) -> bool:
    """Whether the method of a run is a control, according to its metrics."""
    return metrics.method in _OLD if metrics.control is None else metrics.control


def compared_with(runs: pd.DataFrame) -> tuple[str, ...]:
    """Names of the controls to compare with at the same budget: parbench's, and any user-defined ones among some runs.

    Args:
        runs: A frame with the columns ``method`` and ``control``.
    """
    found = set(runs["method"][runs["control"].astype(bool)])
    return (*CONTROLS, *sorted(found - {*CONTROLS, *_PARTS}))
