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
from parbench.reducers.needs import check_model

_log = logging.getLogger(__name__)


def find_threshold(
    counter: KeptCounter,
    asked: Reducer,
    say: Callable[[str], object] = lambda said: _log.info(f"  {said}"),
    step: Callable[[], object] = lambda: None,
    cuts: int = 0,
) -> tuple[Any, float]:
    """The threshold at which the method keeps its budget of tokens on average, and the mean number of tokens it keeps there.

    Args:
        counter: Images and questions.
        asked: The method with its budget; its ``calibrates`` names the field that holds the threshold.
        say: Called with a line of text for each threshold that was tried: the threshold and its mean.
        step: Called after each image of each try.
        cuts: Number of parts the range is divided into to locate the search, useful with few images; 0 where the mean is monotone.

    Raises:
        ParbenchError: The budget is impossible; ``OutOfReach`` if no threshold gives it.
    """
    adapter, field = counter.adapter, str(asked.calibrates)
    check_model(asked, adapter.geometry)

    def mean_count(threshold: Any) -> float:
        tried = dataclasses.replace(asked, **{field: threshold})
        mean = fmean(counter.counts(Engine(adapter, tried), step))
        say(f"{field}={threshold}: {mean:.1f} tokens")
        return mean

    def encode(merger: Merger) -> None:
        counter.encode(merger, step)

    return site_of(asked, adapter.geometry).find_threshold(mean_count, encode, len(counter.groups), cuts, counter.wanted(asked))
