"""A method made ready to be timed: its budget checked, its threshold filled in."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from types import SimpleNamespace

from omegaconf import DictConfig

from parbench.bench.batch import Batch
from parbench.calibration import Subject, calibrated
from parbench.config import build_reducer
from parbench.harness.kept import KeptCounter
from parbench.harness.thresholds import find_threshold
from parbench.models.adapter import LlavaAdapter
from parbench.models.vision import Encoded
from parbench.reducers.base import Reducer


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
        with contextlib.redirect_stdout(sys.stderr):
            found, _ = find_threshold(_BatchCounter(adapter, batch), built)
        return dataclasses.replace(built, **{built.calibrates: found})
    return calibrated(built, Subject(adapter.name, adapter.fingerprint, adapter.geometry))
