"""Logs runs to an experiment tracker, in addition to their folders: ``tracking=wandb``.

Tracking changes no result, and no failure of a tracker stops an evaluation or loses its results.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parbench.harness.tracker import Tracking

if TYPE_CHECKING:
    from parbench.harness.session import Session


def tracking_of(session: Session) -> Tracking:
    """The tracking that the session's configuration selects; wandb is imported only if it is selected."""
    if session.config.tracking.name == "none" or os.environ.get("WANDB_MODE") == "disabled":
        return Tracking()
    from parbench.tracking.wandb_runs import WandbTracking

    return WandbTracking(session)
