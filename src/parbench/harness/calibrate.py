"""Finding an adaptive method's threshold for a mean budget."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from statistics import fmean
from typing import Any

from parbench.engine.engine import Engine
from parbench.engine.sites import site_of
from parbench.harness.token_counter import KeptCounter
from parbench.models.merging import Merger
from parbench.reducers import Reducer

_log = logging.getLogger(__name__)


def find_threshold(
    counter: KeptCounter,
    asked: Reducer,
    say: Callable[[str], object] = lambda said: _log.info(f"  {said}"),
    step: Callable[[], object] = lambda: None,
    cuts: int = 0,
) -> tuple[Any, float]:
    """The value of the field that ``asked.calibrates`` names at which the mean count is its budget, and that mean.

    Args:
        counter: Images and questions.
        asked: The method with its budget.
        say: Given each threshold that was tried, and its mean.
        step: Called after each image of each try.
        cuts: Into how many parts the range is cut to find where to search, for few images; 0: the mean falls all the way.

    Raises:
        ParbenchError: The budget is impossible; ``OutOfReach`` if no threshold gives it.
    """
    adapter, field = counter.adapter, str(asked.calibrates)
    asked.check(adapter.geometry)

    def mean_count(threshold: Any) -> float:
        tried = dataclasses.replace(asked, **{field: threshold})
        mean = fmean(counter.counts(Engine(adapter, tried), step))
        say(f"{field}={threshold}: {mean:.1f} tokens")
        return mean

    def encode(merger: Merger) -> None:
        counter.encode(merger, step)

    return site_of(asked, adapter.geometry).find_threshold(mean_count, encode, len(counter.groups), cuts)
