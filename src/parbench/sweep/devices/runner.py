"""A sweep over several devices of this machine: one worker process per device, and one progress bar for all."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from parbench.errors import FatalError, ParbenchError
from parbench.sweep.devices.names import asked_devices
from parbench.sweep.devices.pool import Message, Pool, Worker
from parbench.sweep.runner import Group, Job, OpenGroup, Sweep

if TYPE_CHECKING:
    from parbench.harness.progress import Progress
    from parbench.harness.session import Session

_log = logging.getLogger(__name__)


def local_sweep(groups: Sequence[Group], *, go_on: bool, begun: Session | None = None) -> Sweep:
    """A sweep on this machine: in this process, or in one process per device of ``launcher.devices``.

    Args:
        groups: What to evaluate.
        go_on: Whether to continue with the other runs when one fails.
        begun: A session that may hold the model already, for a sweep in this process.

    Raises:
        ParbenchError: ``launcher.devices`` is invalid.
    """
    devices = asked_devices(groups[0].config)
    return DeviceSweep(groups, devices, go_on=go_on) if devices else Sweep(groups, go_on=go_on, begun=begun)


@dataclass(eq=False)
class _Part:
    """The unfinished part of a group.

    Attributes:
        opened: The group.
        config: Its configuration, for the worker processes.
        refused: Why a device cannot load its model, by the index of the process.
    """

    opened: OpenGroup
    config: str
    refused: dict[int, str] = field(default_factory=dict)


@dataclass(eq=False)
class _Task:
    """A run to compute.

    Attributes:
        job: The run.
        part: The group it belongs to.
        wait: Whether another process computes it and has to be waited for.
    """

    job: Job
    part: _Part
    wait: bool = False


class DeviceSweep(Sweep):
    """Evaluates groups of runs with one process per device.

    Each run is computed by one process. A free process takes the next run, preferably of the model it has loaded. Messages of
    the processes are shown here. If a process dies, the run that it computed has failed.

    Args:
        groups: What to evaluate.
        devices: Torch names.
        go_on: Whether to continue with the other runs when one fails; otherwise its error ends the sweep.
    """

    def __init__(self, groups: Sequence[Group], devices: Sequence[str], *, go_on: bool) -> None:
        # A run's folder does not record how the sweep was distributed.
        super().__init__([replace(group, config=_alone(group.config)) for group in groups], go_on=go_on)
        self.device = devices[0]
        self._devices = list(enumerate(devices))
        self._waiting: list[_Task] = []
        self._doing: dict[Worker, _Task] = {}
        self._last: dict[int, _Part] = {}

    def _compute_all(self, progress: Progress) -> None:
        for opened in self._open:
            # The worker processes load the model.
            opened.session.release()
            part = _Part(opened, OmegaConf.to_yaml(opened.group.config, resolve=True))
            self._waiting += [_Task(job, part) for job in self._unfinished(opened)]
        if not self._waiting:
            return
        import torch

        with Pool(torch.get_num_threads()) as pool:
            for worker in pool.start(self._devices[: len(self._waiting)]):
                self._hand(worker)
            while self._doing:
                self._hear(pool.hear(), pool, progress)

    def _unfinished(self, opened: OpenGroup) -> list[Job]:
        from parbench.harness.evaluate import is_finished

        left = []
        for job in self._in_order(opened):
            if is_finished(opened.session, job.run):
                job.folder = Path(opened.session.config.results_dir) / job.run
                self._say_done(job, reused=True)
            else:
                left.append(job)
        return left

    def _hand_all(self, pool: Pool) -> None:
        """Give each free process a run."""
        for worker in pool.workers:
            if worker not in self._doing:
                self._hand(worker)

    def _hand(self, worker: Worker) -> None:
        """Give a free process its next run, if there is one for it."""
        can = [task for task in self._waiting if worker.number not in task.part.refused]
        if not can:
            return
        last, others = self._last.get(worker.number), [task.part for task in self._doing.values()]
        # First runs that reuse its model and features; then runs of groups that the fewest other processes have.
        task = min(can, key=lambda task: (task.wait, task.part is not last, others.count(task.part)))
        self._waiting.remove(task)
        self._doing[worker], self._last[worker.number] = task, task.part
        method = OmegaConf.to_yaml(task.job.cell.method, resolve=True)
        worker.send({"config": task.part.config, "method": method, "budget": task.job.cell.budget, "wait": task.wait})

    def _hear(self, message: Message, pool: Pool, progress: Progress) -> None:
        worker, said = message.worker, message.content
        match message.kind:
            case "text":
                _log.warning(f"{worker.name}: {said['line']}")
            case "expect":
                progress.expect(**said)
            case "step":
                progress.step(**said)
            case "fatal":
                raise FatalError(said["said"])
            case "gone" if worker in self._doing:
                self._lost(worker, f"its process on {worker.name} {said['how']}", progress)
                self._replace(worker, pool)
            case "device":
                self._failed_cell(worker, ParbenchError(said["said"]), progress)
                worker.stop(0.0)
                self._replace(worker, pool)
            case "refused":
                self._refuse(worker, said["said"], progress)
                self._hand_all(pool)
            case "held":
                task = self._doing.pop(worker)
                task.wait = True
                self._waiting.append(task)
                self._hand(worker)
            case "failed":
                reason = said["said"] + (f" (see {self._folder(self._doing[worker])}/failed.json)" if said["defect"] else "")
                self._failed_cell(worker, ParbenchError(reason), progress)
                self._hand(worker)
            case "done":
                self._finished(self._doing.pop(worker), Path(said["folder"]), said["reused"], progress)
                self._hand(worker)

    def _replace(self, worker: Worker, pool: Pool) -> None:
        """Start a new process in place of one that has exited, if there is work for it."""
        if any(worker.number not in task.part.refused for task in self._waiting):
            (fresh,) = pool.start([(worker.number, worker.device)])
            self._hand(fresh)

    def _refuse(self, worker: Worker, said: str, progress: Progress) -> None:
        """Handle a device that cannot load a model: other devices compute its runs if they can."""
        task = self._doing.pop(worker)
        task.part.refused[worker.number] = said
        if len(task.part.refused) < len(self._devices):
            _log.warning(f"{worker.name} is skipped: {said}")
            self._waiting.insert(0, task)
            return
        lost = [task, *(other for other in self._waiting if other.part is task.part)]
        self._waiting = [other for other in self._waiting if other.part is not task.part]
        for other in lost:
            progress.settle(other.job.run)
        with self._if_several(task.part.opened.group):
            raise ParbenchError(said)

    def _lost(self, worker: Worker, said: str, progress: Progress) -> None:
        """Handle a process that has exited: the run that it computed has failed."""
        from parbench.harness.evaluate import open_store

        task, error = self._doing[worker], ParbenchError(f"{said}; the same command tries again")
        session = task.part.opened.session
        with (
            contextlib.suppress(ParbenchError),
            contextlib.closing(open_store(session, task.job.identity, wait=False)) as store,
        ):
            store.fail(error)
        self._failed_cell(worker, error, progress)

    def _failed_cell(self, worker: Worker, error: ParbenchError, progress: Progress) -> None:
        task = self._doing.pop(worker)
        if not self.go_on:
            raise error
        progress.settle(task.job.run)
        self._fail(task.job.name, error)

    def _finished(self, task: _Task, folder: Path, reused: bool, progress: Progress) -> None:
        progress.settle(task.job.run)
        task.job.folder = folder
        self._say_done(task.job, reused)

    @staticmethod
    def _folder(task: _Task) -> Path:
        return Path(task.part.opened.session.config.results_dir) / task.job.run


def _alone(config: Any) -> Any:
    """The configuration of the same sweep in one process."""
    alone = config.copy()
    OmegaConf.update(alone, "launcher.devices", None)
    return alone
