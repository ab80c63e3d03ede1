"""A method made ready to be timed: its budget checked, its threshold filled in."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from statistics import fmean
from typing import Any

from omegaconf import DictConfig

from parbench.bench.batch import Batch
from parbench.config import build_reducer
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.harness.calibrate import find_threshold
from parbench.harness.token_counter import KeptCounter
from parbench.models.adapter import LlavaAdapter
from parbench.reducers import Reducer, TowerReducer
from parbench.reducers.calibration import Subject, calibrated, search

_STEPS = 20


def ready(adapter: LlavaAdapter, method: DictConfig, budget: int | float | None, batch: Batch) -> Reducer:
    """The method for this model and budget.

    A threshold that nobody has found before, as none can have for random weights, is found on the timed images, so that their mean
    is the budget.

    Raises:
        ParbenchError: The method cannot deliver that budget on this model.
    """
    built = build_reducer(method, budget)
    built.check(adapter.geometry)
    built = dataclasses.replace(built, budget=built.asked(adapter.geometry))
    field = built.open_threshold
    if field is None:
        return built
    if adapter.fingerprint != "random":
        clip = adapter.clip_fingerprint if built.needs_clip else None
        with contextlib.suppress(ParbenchError):
            return calibrated(built, Subject(adapter.name, adapter.fingerprint, adapter.geometry, clip))
    return dataclasses.replace(built, **{field: _threshold(_counter(adapter, batch), built)})


def _counter(adapter: LlavaAdapter, batch: Batch) -> KeptCounter:
    pairs = [(image, [question]) for image, question in zip(batch.images, batch.questions, strict=True)]
    return KeptCounter(adapter, pairs)


def _threshold(counter: KeptCounter, asked: Reducer) -> Any:
    if isinstance(asked, TowerReducer):
        with contextlib.redirect_stdout(sys.stderr):
            return find_threshold(counter, asked)[0]

    def count(value: float) -> float:
        fields: dict[str, Any] = {str(asked.calibrates): value}
        tried = dataclasses.replace(asked, **fields)
        return fmean(counter.counts(Engine(counter.adapter, tried)))

    wanted = asked.count(counter.adapter.geometry)
    # One image may keep more again where nothing of it passes: the first way down is the one to search.
    low, high = asked.calibration_range
    steps = [low + (high - low) * step / _STEPS for step in range(_STEPS + 1)]
    after = next((step for step in range(1, _STEPS) if count(steps[step]) <= wanted), _STEPS)
    return search(count, wanted, steps[after - 1], steps[after])[0]
