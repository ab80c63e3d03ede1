"""Whoever is told of runs as they go; whoever evaluates hands it in."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from parbench.results.record import RunMetrics
from parbench.results.store import RunStore


class Tracker:
    """What is told of one run as it goes; this one tells nobody."""

    def update(self) -> None:
        """Further samples are in the run's folder."""

    def finish(self, metrics: RunMetrics, *, reused: bool = False) -> None:
        """The run is finished; ``reused``: it was so before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close what is open, as stopped if the run is not finished."""


class Tracking:
    """Trackers for the runs of a process; this one tracks nothing."""

    def run(self, store: RunStore) -> Tracker:
        """The tracker of one run."""
        return Tracker()
