"""Finding an adaptive method's threshold for a mean budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from statistics import fmean
from typing import Any

from parbench.engine.engine import Engine
from parbench.errors import OutOfReach
from parbench.harness.token_counter import KeptCounter
from parbench.reducers import Reducer, TowerReducer
from parbench.reducers.budget import FAR
from parbench.reducers.calibration import block_thresholds, search


def find_threshold(
    counter: KeptCounter,
    asked: Reducer,
    say: Callable[[str], object] = lambda said: print(f"  {said}", flush=True),
    step: Callable[[], object] = lambda: None,
) -> tuple[Any, float]:
    """The value of the field that ``asked.calibrates`` names at which the mean count is its budget, and that mean.

    Args:
        counter: Images and questions.
        asked: The method with its budget.
        say: Given each threshold that was tried, and its mean.
        step: Called after each image of each try.

    Raises:
        ParbenchError: The budget is impossible; ``OutOfReach`` if no threshold gives it.
    """
    adapter, field = counter.adapter, str(asked.calibrates)
    asked.check(adapter.geometry)
    wanted = asked.count(adapter.geometry)

    def mean_count(threshold: Any) -> float:
        tried = dataclasses.replace(asked, **{field: threshold})
        mean = fmean(counter.counts(Engine(adapter, tried), step))
        say(f"{field}={threshold}: {mean:.1f} tokens")
        return mean

    if not isinstance(asked, TowerReducer):
        low, high = asked.calibration_range
        return search(mean_count, wanted, low, high)
    found = block_thresholds(asked, lambda merger: counter.encode(merger, step), len(counter.groups), adapter.geometry)
    mean = mean_count(found)
    # Where a block merges all that it can, no threshold merges more.
    if abs(mean - wanted) > max(FAR * wanted, 1):
        raise OutOfReach(f"target={wanted} is out of reach: the nearest mean is {mean:.1f} tokens", (found, mean))
    return found, mean
