"""Runs in an experiment tracker, beside their folders: ``tracking=wandb``.

Nothing in here changes a number, and no failure of a tracker stops an evaluation or loses one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parbench.harness.tracker import Tracking

if TYPE_CHECKING:
    from parbench.harness.session import Session


def tracking_of(session: Session) -> Tracking:
    """As the session's configuration asks for; nothing of wandb is imported unless it does."""
    if session.config.tracking.name == "none" or os.environ.get("WANDB_MODE") == "disabled":
        return Tracking()
    from parbench.tracking.wandb_runs import WandbTracking

    return WandbTracking(session)
