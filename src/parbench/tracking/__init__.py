"""Runs in an experiment tracker, beside their folders: ``tracking=wandb``.

Nothing in here changes a number, and no failure of a tracker stops an evaluation or loses one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.results.store import RunStore


class Tracker:
    """What is told of one run as it goes; this one tells nobody (``tracking=none``)."""

    def update(self) -> None:
        """Further samples are in the run's folder."""

    def finish(self, metrics: Mapping[str, Any], *, reused: bool = False) -> None:
        """The run is finished; ``reused``: it was so before."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is open, as stopped if the run is not finished."""


class Tracking:
    """Trackers for the runs of a process; this one tracks nothing."""

    def run(self, store: RunStore) -> Tracker:
        """The tracker of one run."""
        return Tracker()


def tracking_of(session: Session) -> Tracking:
    """As the session's configuration asks for; nothing of wandb is imported unless it does."""
    if session.config.tracking.name == "none" or os.environ.get("WANDB_MODE") == "disabled":
        return Tracking()
    from parbench.tracking.wandb_runs import WandbTracking

    return WandbTracking(session)
