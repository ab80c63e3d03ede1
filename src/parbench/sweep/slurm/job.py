"""The code that a job runs on its node."""

from __future__ import annotations

import logging
import runpy
import signal
import sys
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

from parbench.log import option_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepJob:
    """A local sweep over one model, data set and shard.

    Whatever ends it, the same command resumes it: all of its state is in the results folder.

    Attributes:
        words: The command line after ``parbench sweep``.
        level: Log level, as in :mod:`logging`; it is not part of the job's identity.
    """

    words: tuple[str, ...]
    level: int = field(default=logging.INFO, compare=False)

    def __call__(self) -> None:
        """Run the sweep; its exit code becomes the job's."""
        _stop_whole()
        sys.argv = ["parbench", "sweep", *option_of(self.level), *self.words]
        try:
            runpy.run_module("parbench", run_name="__main__")
        except SystemExit as ended:
            if ended.code:
                raise

    def checkpoint(self) -> DelayedSubmission:
        """The job that submitit requeues when a time limit or preemption is announced."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _stop_whole() -> None:
    """Make a signal of submitit end the process immediately.

    If submitit does not requeue, its handler raises a RuntimeError at an arbitrary point, even in a forward pass, and the run
    would count as failed.
    """
    from submitit import JobEnvironment

    environment = JobEnvironment()
    number = signal.Signals[f"SIG{environment.USR_SIG}"]
    handler = signal.getsignal(number)
    assert callable(handler)
    submitted = environment.paths.submitted_pickle
    # Left behind if the job was killed while writing; submitit would refuse to write again.
    submitted.with_suffix(submitted.suffix + ".save_tmp").unlink(missing_ok=True)

    def handle(signum: int, frame: FrameType | None) -> None:
        try:
            handler(signum, frame)
        except Exception as error:
            advice = "raise launcher.timeout_min or launcher.max_num_timeout; the same command goes on"
            _log.error(f"parbench: {str(error).rstrip('.')}: {advice}", exc_info=error)
            raise SystemExit(1) from error

    signal.signal(number, handle)
