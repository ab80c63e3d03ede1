"""A method made ready to be timed: its budget checked, its threshold filled in."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from statistics import fmean
from types import SimpleNamespace
from typing import Any

from omegaconf import DictConfig

from parbench.bench.batch import Batch
from parbench.calibration import Subject, calibrated, search
from parbench.config import build_reducer
from parbench.engine.engine import Engine
from parbench.harness.kept import KeptCounter
from parbench.harness.thresholds import find_threshold
from parbench.models.adapter import LlavaAdapter
from parbench.models.vision import Encoded
from parbench.reducers.base import Reducer, TowerReducer

_STEPS = 20


class _BatchCounter(KeptCounter):
    """Counts on the images that are timed."""

    def __init__(self, adapter: LlavaAdapter, batch: Batch) -> None:
        self.session = SimpleNamespace(adapter=adapter, geometry=adapter.geometry)
        self.groups = [
            (image, seed, [question])
            for image, seed, question in zip(batch.images, batch.seeds, batch.questions, strict=True)
        ]
        self._encoded: dict[tuple[int, ...], list[Encoded]] = {}


def ready(adapter: LlavaAdapter, method: DictConfig, budget: int | float | None, batch: Batch) -> Reducer:
    """The method for this model and budget.

    A threshold for random weights can only be found on them: on the timed images, so that their mean is the budget.

    Raises:
        ParbenchError: The method cannot deliver that budget on this model, or is not calibrated for it.
    """
    built = build_reducer(method, budget)
    built.check(adapter.geometry)
    built = dataclasses.replace(built, budget=built.asked(adapter.geometry))
    open_threshold = built.calibrates and built.budget is not None and getattr(built, built.calibrates) is None
    if adapter.fingerprint == "random" and open_threshold:
        return dataclasses.replace(built, **{built.calibrates: _threshold(_BatchCounter(adapter, batch), built)})
    return calibrated(built, Subject(adapter.name, adapter.fingerprint, adapter.geometry))


def _threshold(counter: _BatchCounter, asked: Reducer) -> Any:
    if isinstance(asked, TowerReducer):
        with contextlib.redirect_stdout(sys.stderr):
            return find_threshold(counter, asked)[0]

    def count(value: float) -> float:
        fields: dict[str, Any] = {str(asked.calibrates): value}
        tried = dataclasses.replace(asked, **fields)
        return fmean(counter.counts(Engine(counter.session.adapter, tried)))

    wanted = asked.count(counter.session.geometry)
    # One image may keep more again where nothing of it passes: the first way down is the one to search.
    low, high = asked.calibration_range
    steps = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
    after = next((step for step in range(1, _STEPS) if count(steps[step]) <= wanted), _STEPS)
    return search(count, wanted, steps[after - 1], steps[after])[0]
