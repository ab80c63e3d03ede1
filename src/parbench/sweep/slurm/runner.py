"""A sweep whose groups are jobs on a cluster, run from the login node: submits, shows progress, prints the tables."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.errors import ParbenchError, Uncalibrated
from parbench.sweep.runner import Group, Job, OpenGroup, Sweep
from parbench.sweep.slurm.cluster import JobState, check_installed
from parbench.sweep.slurm.job import SweepJob
from parbench.sweep.slurm.wait import Ended, Queue

if TYPE_CHECKING:
    from parbench.harness.planned import PlannedRun
    from parbench.harness.progress import Progress
    from parbench.harness.session import Session

_log = logging.getLogger(__name__)

# In the results folder, next to the runs.
FOLDER = ".slurm"
# How late a file written by another machine may appear: NFS caches its absence for up to a minute.
_LATE_S = 90.0


def job_words(words: Sequence[str], device: str, settings: Mapping[str, Any]) -> list[str]:
    """The command line of a job: the given one, for a local sweep on the device that the job requests.

    Args:
        words: Words of one model, one data set and one shard.
        device: ``model.device`` as configured.
        settings: ``conf/launcher/slurm.yaml``.
    """
    kept = [word for word in words if not word.lstrip("+~").startswith(("launcher=", "launcher."))]
    if device != "auto":
        return kept
    asked = [key for key, value in {**settings, **(settings["additional_parameters"] or {})}.items() if value]
    gpus = any(key.startswith(("gpus", "gres")) for key in asked)
    # The device type is part of the run id, which is needed here; and a job on a node without GPUs must not fall back to the CPU.
    return [*kept, f"model.device={'cuda' if gpus else 'cpu'}"]


class SlurmSweep(Sweep):
    """Submits what is not finished, waits, and prints the tables of a local sweep.

    Args:
        groups: The groups, as for a local sweep.
        words: The command line of each group's job, after ``parbench sweep``.
        settings: ``conf/launcher/slurm.yaml``.
    """

    elsewhere = True

    def __init__(self, groups: Sequence[Group], words: Sequence[Sequence[str]], settings: Mapping[str, Any]) -> None:
        super().__init__(groups, go_on=True)
        self._settings = settings
        self._folder = Path(groups[0].config.results_dir).absolute() / FOLDER
        # Jobs log at the same level as this process.
        level = _log.getEffectiveLevel()
        self._job_of = {id(group): SweepJob(tuple(one), level) for group, one in zip(groups, words, strict=True)}
        self._cells: list[_Watched] = []
        self._seen: Counter[str] = Counter()
        # Groups that are opened after their job has ended.
        self._ended_jobs: set[int] = set()

    def run(self) -> int:
        """Submit, wait, print the tables; the exit code is 1 if a run has no result.

        Raises:
            ParbenchError: No job could be submitted.
        """
        check_installed()
        # The job searches for missing thresholds; the ids of its runs are known only afterwards.
        later = [group for group in self.groups if group.config.variants]
        for group in [group for group in self.groups if group not in later]:
            try:
                with self._if_several(group):
                    self._open.append(self._opened(group))
            except Uncalibrated:
                later.append(group)
        queue = Queue(self._folder, self._settings)
        try:
            ended = self._jobs_ended(queue, later)
        except KeyboardInterrupt:
            _log.warning(queue.advice())
            return 130
        for group in later:
            self._open_later(group, ended[self._job_of[id(group)]])
        for opened in self._open:
            self._collect(opened, ended.get(self._job_of[id(opened.group)]))
        self._show()
        return 1 if self._failed else 0

    def _jobs_ended(self, queue: Queue, later: Sequence[Group]) -> dict[SweepJob, Ended]:
        from parbench.harness.progress import Progress

        with Progress() as progress:
            unfinished = [opened.group for opened in list(self._open) if self._watch(opened, progress)]
            queue.hand_in(list(dict.fromkeys(self._job_of[id(group)] for group in (*unfinished, *later))))
            ended = queue.wait(lambda states: self._look(states, progress))
            self._look((), progress)
            self._await_files(ended, progress)
        return ended

    def _watch(self, opened: OpenGroup, progress: Progress) -> bool:
        """Watch the unfinished runs of a group; whether there are any."""
        with self._if_several(opened.group):
            self._announce(opened, progress)
            cells = [_Watched(job, opened.session, self._job_of[id(opened.group)]) for job in opened.jobs]
            for cell in [cell for cell in cells if cell.finished]:
                cells.remove(cell)
                self._say(f"{cell.job.name}: finished before, nothing recomputed ({cell.folder})")
            for cell in cells:
                progress.expect(cell.job.run, opened.session.questions, cell.lines)
            self._cells += cells
            return bool(cells)
        return False

    def _look(self, states: Collection[JobState], progress: Progress) -> None:
        for cell in self._cells:
            if new := cell.answered():
                progress.step(cell.job.run, new)
        for cell in [cell for cell in self._cells if cell.finished]:
            self._cells.remove(cell)
            progress.settle(cell.job.run)
            self._say(f"{cell.job.name}: done ({cell.folder})")
        found = Counter(_short(state) for state in states)
        if found and found != self._seen:
            _log.info(f"jobs: {', '.join(f'{count} {name}' for name, count in found.items())}")
            self._seen = found

    def _await_files(self, ended: Mapping[SweepJob, Ended], progress: Progress) -> None:
        """Wait for the results of jobs that Slurm calls completed."""
        end = time.monotonic() + _LATE_S
        while any(ended[cell.computed_by].state.name == "COMPLETED" for cell in self._cells) and time.monotonic() < end:
            time.sleep(1)
            self._look((), progress)

    def _open_later(self, group: Group, ended: Ended) -> None:
        # A failed job may have computed some of its runs.
        if (trouble := ended.trouble(self._settings)) and ended.state.name != "FAILED":
            self._fail(group.title or "sweep", ParbenchError(trouble))
            return
        self._ended_jobs.add(id(group))
        with self._if_several(group):
            self._open.append(self._opened(group))

    def _job(self, run: PlannedRun, opened: OpenGroup) -> Job | None:
        try:
            return super()._job(run, opened)
        except Uncalibrated as error:
            if id(opened.group) not in self._ended_jobs:
                raise
            self._fail(run.cell.label or str(run.cell.method.name), ParbenchError(f"{error}: the job's log says why"))
            return None

    def _collect(self, opened: OpenGroup, ended: Ended | None) -> None:
        from parbench.harness.evaluate import open_store

        trouble = ended.trouble(self._settings) if ended else ""
        # The runs that a job did not reach share one reason.
        missed = []
        for job in opened.jobs:
            try:
                with contextlib.closing(open_store(opened.session, job.identity, wait=False)) as store:
                    finished = store.metrics is not None
                if finished:
                    job.folder = store.folder
                elif reason := _reason(store.folder):
                    raise ParbenchError(reason)
                else:
                    missed.append(job.name)
            except ParbenchError as error:
                self._fail(job.name, error)
        if missed:
            self._fail("; ".join(missed), ParbenchError(trouble or "not computed by its job, which says no reason"))


def _short(state: JobState) -> str:
    """A job's state, with the reason it is pending unless it is only waiting for its turn."""
    waits = state.name == "PENDING" and state.reason not in ("", "Priority", "Resources")
    return f"{state.name.lower()}{f' ({state.reason})' if waits else ''}"


def _reason(folder: Path) -> str:
    """Why a run failed, from its folder; empty if it did not."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / "failed.json").read_text(encoding="utf-8"))["reason"])
    return ""


class _Watched:
    """A run that a cluster job computes.

    Attributes:
        job: The run.
        computed_by: The cluster job.
        folder: The run's folder.
        lines: Number of samples at the last query.
    """

    def __init__(self, job: Job, session: Session, computed_by: SweepJob) -> None:
        self.job, self.computed_by = job, computed_by
        self.folder = Path(session.config.results_dir) / job.run
        self._at = self.lines = 0
        self.answered()

    @property
    def finished(self) -> bool:
        """Whether its metrics exist."""
        return (self.folder / "metrics.json").exists()

    def answered(self) -> int:
        """The number of samples added since the last call."""
        before = self.lines
        with contextlib.suppress(OSError), (self.folder / "samples.jsonl").open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._at:
                # A resumed run removes an incomplete last line.
                self._at = self.lines = 0
            file.seek(self._at)
            new = file.read()
            self._at += len(new)
            self.lines += new.count(b"\n")
        return self.lines - before
