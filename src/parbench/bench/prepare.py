"""Preparation of a method for timing: budget check and threshold."""

from __future__ import annotations

import contextlib
import dataclasses

from omegaconf import DictConfig

from parbench.bench.batch import Batch
from parbench.config import build_reducer
from parbench.errors import ParbenchError
from parbench.harness.calibrate import find_threshold
from parbench.harness.token_counter import KeptCounter
from parbench.models.adapter import ModelAdapter
from parbench.reducers import Reducer
from parbench.reducers.calibration import Subject, calibrated
from parbench.reducers.needs import check_model

# With few images, the number of tokens need not be monotonic over the whole range.
_CUTS = 20


def ready(adapter: ModelAdapter, method: DictConfig, budget: int | float | None, batch: Batch) -> Reducer:
    """The method for this model and budget.

    If no threshold is stored (always so for random weights), it is calibrated on the timed images.

    Raises:
        ParbenchError: The method cannot deliver that budget on this model.
    """
    built = build_reducer(method, budget)
    check_model(built, adapter.geometry)
    built = built.in_tokens(adapter.geometry).for_model(adapter.name, lambda: adapter.fingerprint, adapter.geometry)
    field = built.open_threshold
    if field is None:
        return built
    if adapter.fingerprint != "random":
        clip = adapter.clip_fingerprint if built.needs_clip else None
        with contextlib.suppress(ParbenchError):
            return calibrated(built, Subject(adapter.name, adapter.fingerprint, adapter.geometry, clip))
    threshold, _ = find_threshold(_counter(adapter, batch), built, say=lambda _said: None, cuts=_CUTS)
    return dataclasses.replace(built, **{field: threshold})


def _counter(adapter: ModelAdapter, batch: Batch) -> KeptCounter:
    pairs = [(image, [question]) for image, question in zip(batch.images, batch.questions, strict=True)]
    return KeptCounter(adapter, pairs)
