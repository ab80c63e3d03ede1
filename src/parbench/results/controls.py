"""Which methods others are compared with, and which runs are of a control."""

from __future__ import annotations

from parbench.results.record import RunMetrics

# At the same budget.
CONTROLS = ("random", "uniform", "pool", "downsample")
# The controls of runs from before metrics.json said whether the method is one; this list does not grow.
_OLD = (*CONTROLS, "none", "random-in-llm", "first-n", "cls-topk", "cls-topk-mean")


def is_control(metrics: RunMetrics) -> bool:
    """Whether the method of a run is a control, as the run's record says."""
    return metrics.method in _OLD if metrics.control is None else metrics.control
