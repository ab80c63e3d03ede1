"""The state of jobs, queried through Slurm's own programs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from parbench.errors import ParbenchError

# Slurm's programs block for seconds while its controller restarts.
_TIMEOUT_S = 60.0
OVER = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "GONE",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
# A job that lost its node or was preempted looks finished for a moment before it is requeued.
_MAY_RETURN = {"BOOT_FAIL", "GONE", "NODE_FAIL", "PREEMPTED"}


@dataclass(frozen=True)
class JobState:
    """The state of a job according to Slurm.

    Attributes:
        name: Slurm's name of the state; GONE if Slurm no longer knows the job.
        reason: Why it is pending or ended, if that is known.
        node: The node on which it runs or ran.
    """

    name: str
    reason: str = ""
    node: str = ""


def check_installed() -> None:
    """Check that jobs can be submitted from this machine.

    Raises:
        ParbenchError: Slurm's programs are not installed.
    """
    if shutil.which("sbatch") is None:
        raise ParbenchError(
            "launcher=slurm needs Slurm, but this machine has no sbatch: run the command on a login node of the cluster, or here "
            "without launcher=slurm"
        )


def ask(jobs: Collection[str]) -> dict[str, JobState] | None:
    """The states of jobs by id, such as ``12`` or ``12_3`` of an array; None while Slurm does not answer.

    The queue lists jobs until some minutes after their end. The accounting database, if there is one, keeps them.
    """
    if not jobs:
        return {}
    arrays = ",".join(sorted({job.split("_")[0] for job in jobs}))
    # Querying a single job that ended long ago is an error.
    queue = _run("squeue", "--noheader", "--array", "--states=all", f"--jobs={arrays}", "--format=%i|%T|%r|%N")
    if queue is None:
        return None
    found = {job: state for job, state in _parse(queue) if job in jobs}
    if missing := set(jobs) - set(found):
        # Each requeue adds a line; the last one counts.
        format_ = "--format=JobID,State,Reason,NodeList"
        past = _run("sacct", "--noheader", "--parsable2", "--allocations", "--duplicates", f"--jobs={arrays}", format_)
        found |= {job: state for job, state in _parse(past or "") if job in missing}
    return {job: found.get(job, JobState("GONE")) for job in jobs}


def _parse(lines: str) -> Iterator[tuple[str, JobState]]:
    for line in lines.splitlines():
        job, state, reason, node = (*line.split("|"), "", "", "")[:4]
        # "CANCELLED by 1000"
        yield job, JobState(state.split()[0] if state else "GONE", "" if reason == "None" else reason, node)


def cancel(jobs: Collection[str]) -> None:
    """Cancel jobs in any state."""
    _run("scancel", *jobs)


def partitions() -> list[str]:
    """Names of the cluster's partitions; empty if Slurm does not list them."""
    return sorted(set((_run("sinfo", "--noheader", "--format=%R") or "").split()))


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode and "Invalid job id" in done.stderr:
        return ""
    return None if done.returncode else done.stdout


class Watch:
    """Follows jobs until they have ended for good.

    Args:
        jobs: Their ids.
        settle_s: Seconds for which a job that may be requeued has to be over before it counts as ended.
        ask: Gives the states of jobs, as the function ``ask`` does.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        jobs: Collection[str],
        settle_s: float = 30.0,
        ask: Callable[[Collection[str]], Mapping[str, JobState] | None] = ask,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.states = {job: JobState("PENDING") for job in jobs}
        self.answers = True
        self._settle_s, self._ask, self._clock = settle_s, ask, clock
        self._over_since: dict[str, float] = {}
        self._over: set[str] = set()

    def poll(self) -> set[str]:
        """Query once; gives the ids of the jobs that have ended for good."""
        open_jobs = self.states.keys() - self._over
        found = self._ask(open_jobs)
        self.answers = found is not None
        for job, state in (found or {}).items():
            self.states[job] = state
            if state.name not in OVER:
                self._over_since.pop(job, None)
            elif state.name not in _MAY_RETURN or self._settled(job):
                self._over.add(job)
        return set(self._over)

    def _settled(self, job: str) -> bool:
        now = self._clock()
        return now - self._over_since.setdefault(job, now) >= self._settle_s
