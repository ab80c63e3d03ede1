"""Submits jobs that are not in the queue yet, and waits for all of them."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.sweep.slurm.cluster import OVER, JobState, Watch, ask, cancel
from parbench.sweep.slurm.job import SweepJob
from parbench.sweep.slurm.submit import Submitted, submit
from parbench.sweep.slurm.submitted import Ledger

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """A job that has ended.

    Attributes:
        submitted: Its id and log.
        state: Its final state.
    """

    submitted: Submitted
    state: JobState

    def trouble(self, settings: Mapping[str, Any]) -> str:
        """What went wrong, in words; empty if nothing did."""
        state, log = self.state, self.submitted.log
        said = {
            "COMPLETED": "",
            "CANCELLED": "was cancelled",
            "TIMEOUT": f"ran into its time limit of {settings['timeout_min']} min without being told before",
            "DEADLINE": "ran into its deadline",
            "NODE_FAIL": f"lost its node {state.node}",
            "BOOT_FAIL": f"lost its node {state.node}",
            "PREEMPTED": "lost its place to another job and was not queued again",
            "OUT_OF_MEMORY": "needed more memory than it had asked for: raise launcher.mem_gb",
            "GONE": "is not known to Slurm any more",
        }.get(state.name, "failed")
        return f"job {self.submitted.job} {said}{_last_words(log) if said == 'failed' else ''}" if said else ""


def _last_words(log: Path) -> str:
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return f" without a word in {log}: do the nodes see that folder, and may they write there?"
    # srun's line only says that something failed.
    own = [line for line in lines if line and not line.startswith(("srun: ", "slurmstepd"))]
    if own:
        at = max((place for place, line in enumerate(own) if line.startswith("parbench: ")), default=len(own) - 1)
        # A sweep's log ends with a list of what failed.
        said = " ".join(own[at:]) if own[at].endswith(":") else own[at]
        return f" ({log}): {said.removeprefix('parbench: ')}"
    full = "no space is left on its disk" if shutil.disk_usage(log.parent).free == 0 else "nothing is in it"
    return f" and cannot say why in its log {log}: {full}"


class Queue:
    """The jobs of a sweep.

    Args:
        folder: Folder of logs, pickles and the record of submitted jobs.
        settings: ``conf/launcher/slurm.yaml``.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._ledger = Ledger(folder)
        self._settings = settings
        self.jobs: dict[SweepJob, Submitted] = {}

    def hand_in(self, jobs: Sequence[SweepJob]) -> None:
        """Submit the jobs that no earlier command has submitted, or whose job has ended.

        Raises:
            ParbenchError: Slurm refuses the jobs, or does not answer.
        """
        with self._ledger.held():
            known = {job: handed for job, handed in self._ledger.last().items() if job in jobs}
            states = ask([handed.job for handed in known.values()])
            if states is None:
                raise ParbenchError("Slurm does not answer (squeue): try again when `sinfo` shows the cluster")
            self.jobs = {job: handed for job, handed in known.items() if states[handed.job].name not in OVER}
            for handed in self.jobs.values():
                _log.warning(
                    f"job {handed.job} of an earlier command goes on, with that command's launcher settings: waiting for it"
                )
            new = [job for job in jobs if job not in self.jobs]
            if new:
                fresh = submit(new, self._settings, self._ledger.folder)
                self.jobs |= dict(zip(new, fresh, strict=True))
                try:
                    self._ledger.add(new, fresh)
                except BaseException:
                    # Cancel them: no command could find them again.
                    cancel([handed.job for handed in fresh])
                    raise

    def wait(self, look: Callable[[Collection[JobState]], None]) -> dict[SweepJob, Ended]:
        """Wait for all jobs; ``look`` is called with the jobs' states after each query of the queue."""
        watch = Watch([handed.job for handed in self.jobs.values()])
        answered = True
        while len(watch.poll()) < len(self.jobs):
            if answered and not watch.answers:
                _log.warning("Slurm does not answer (squeue): asking again")
            answered = watch.answers
            look(watch.states.values() if watch.answers else ())
            time.sleep(self._settings["poll_s"])
        return {job: Ended(handed, watch.states[handed.job]) for job, handed in self.jobs.items()}

    def advice(self) -> str:
        """Advice for the user on jobs that go on after the command has stopped waiting."""
        if not self.jobs:
            return (
                "parbench: interrupted before jobs were written down: squeue --me --name=parbench shows whether Slurm has some "
                "already; the same command hands them in again"
            )
        arrays = sorted({handed.job.split("_")[0] for handed in self.jobs.values()}, key=int)
        return (
            f"parbench: the jobs go on: squeue --jobs={','.join(arrays)} shows them, scancel {' '.join(arrays)} ends them, their "
            f"logs are in {self._ledger.folder}; the same command waits for them again"
        )
