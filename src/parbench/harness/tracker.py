"""The interface of experiment trackers; the caller of ``evaluate`` passes one in."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from parbench.results.record import RunMetrics
from parbench.results.store import RunStore


class Tracker:
    """Logs one run while it is computed; this base class logs nothing."""

    def update(self) -> None:
        """Called when further samples have been written to the run's folder."""

    def finish(self, metrics: RunMetrics, *, reused: bool = False) -> None:
        """Called when the run is finished; ``reused`` says that it was finished before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the tracker; an unfinished run is marked as stopped."""


class Tracking:
    """Creates the trackers of a process's runs; this base class tracks nothing."""

    def run(self, store: RunStore) -> Tracker:
        """The tracker of one run."""
        return Tracker()
