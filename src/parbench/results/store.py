"""A run's folder: its identity, the samples as they are computed, and the metrics at the end."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from parbench.errors import FatalError, ParbenchError, RunLockedError
from parbench.files import write_whole
from parbench.locks import FileLock, LockOwner, lock_owner
from parbench.results.layouts import FILE as LAYOUTS
from parbench.results.layouts import Layout, read_layouts
from parbench.results.metrics import read_metrics
from parbench.results.plan import FILE as PLAN
from parbench.results.plan import agreed_batch_size, read_plan, write_plan
from parbench.results.record import RunMetrics, SampleRecord
from parbench.results.run_identity import FILE, Provenance, joined, read_provenance, run_id
from parbench.results.samples import FILE as SAMPLES
from parbench.results.samples import read_samples

_log = logging.getLogger(__name__)

LOCK = ".lock"
# Error codes of a file system without locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class RunStore:
    """The folder ``<root>/<id>`` of one run. An unfinished run is locked until ``close``; a finished one is only read.

    Args:
        root: The folder of all runs.
        identity: Everything that can change a result; its hash is the folder's name.
        config: The whole configuration, stored for reference.
        wait: Whether to wait, with a message, for another process that computes the run.

    Attributes:
        plan: Decisions that a resumed run must repeat: ``batch_size``, ``questions`` (the number of questions of this run) and
            ``most``, the largest batch size that fitted into the device's memory.
        done: The stored samples, by id, in order.
        layouts: Sizes of images (width, height) whose layouts are stored.

    Raises:
        FatalError: The folder cannot be written.
        RunLockedError: Another process computes the run, and ``wait`` is off.
        ParbenchError: The folder is damaged, or holds another run.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], config: Mapping[str, Any], *, wait: bool = True) -> None:
        self.id = run_id(identity)
        self.folder = Path(root) / self.id
        self.samples_path = self.folder / SAMPLES
        self.metrics_path = self.folder / "metrics.json"
        # The shards of a run share the plan in the unsharded run's folder.
        self._whole = Path(root) / run_id({**identity, "shard": None})
        self._held: FileLock | None = None
        self.done: dict[str, SampleRecord] = {}
        self.plan: dict[str, Any] = {}
        self.layouts: set[tuple[int, int]] = set()
        try:
            if self.metrics_path.exists() and (self.folder / FILE).exists():
                self._check_identity()
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock(wait)
            self._claim(identity, config)
            self.plan = read_plan(self.folder)
            self.done = {line.id: line for line in self._read()}
            _cut(self.folder / LAYOUTS)
            self.layouts = set(read_layouts(self.folder))
        except OSError as error:
            self.close()
            raise FatalError(
                f"the results folder {self.folder} cannot be written ({error.strerror}): make it writable or choose another with "
                "results_dir=/path/to/folder"
            ) from error
        except BaseException:
            self.close()
            raise

    def _lock(self, wait: bool) -> None:
        """Lock the run until ``close``; a second process waits and then reads the result, or gets RunLockedError."""

        def busy(owner: LockOwner) -> None:
            said = f"run {self.id} is being computed by {owner}"
            if not wait:
                raise RunLockedError(said) from None
            _log.warning(f"{said}: waiting for it")

        try:
            self._held = FileLock(self.folder / LOCK, busy)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise FatalError(
                f"the file system of {self.folder} has no locks ({error.strerror}), so that two processes could write one run: "
                "mount it with locks (Lustre: -o flock) or choose another folder with results_dir=/path/to/folder"
            ) from error
        self.sign()

    def sign(self, since: float | None = None, done: int = 0) -> None:
        """Record which process computes the run, since when, and from how many samples on (see ``LockOwner``)."""
        assert self._held is not None
        self._held.sign(LockOwner.this(since, done))

    def close(self) -> None:
        """Release the lock."""
        if self._held is not None:
            self._held.release()

    def _check_identity(self) -> None:
        found = self.provenance.run_id
        if found != self.id:
            raise ParbenchError(f"{self.folder} holds a run of another identity ({found}): move it away and run again")

    def _claim(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        if (self.folder / FILE).exists():
            self._check_identity()
        else:
            _write(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            _write(self.folder / FILE, Provenance(dict(identity)).text())
        if not os.access(self.folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _read(self) -> list[SampleRecord]:
        """The complete lines; an incomplete last line of a killed process is removed."""
        if not self.samples_path.exists():
            return []
        _cut(self.samples_path)
        return read_samples(self.samples_path, self.provenance.computed_by)

    @property
    def metrics(self) -> RunMetrics | None:
        """The metrics of a finished run, else None.

        Raises:
            ParbenchError: The file is damaged, or of another format.
        """
        return read_metrics(self.metrics_path, self.provenance.computed_by) if self.metrics_path.exists() else None

    @property
    def provenance(self) -> Provenance:
        """The run's identity, and the code and devices that computed it so far.

        Raises:
            ParbenchError: The file is damaged.
        """
        path = self.folder / FILE
        try:
            return read_provenance(path)
        except ValueError as error:
            raise ParbenchError(f"{path} is damaged ({error}): move the folder away and run again") from error

    def record(self, *states: Mapping[str, Any]) -> None:
        """Add the code and device that compute this run from now on to its provenance.

        Args:
            states: Entries as from ``parbench.provenance.computed_by``.

        Raises:
            FatalError: The file cannot be written.
        """
        known = self.provenance
        by = joined([known.computed_by, states])
        if by != list(known.computed_by):
            _write(self.folder / FILE, Provenance(known.identity, tuple(by)).text())

    def batch_size(self, find: Callable[[], int]) -> int:
        """The batch size of this run and of its other shards, determined by the first of them on its machine.

        Raises:
            FatalError: The file cannot be written.
        """
        if "batch_size" not in self.plan:
            try:
                self.settle(batch_size=agreed_batch_size(self._whole, find))
            except OSError as error:
                raise _refused(self._whole / PLAN, error) from error
        return int(self.plan["batch_size"])

    def settle(self, **facts: Any) -> None:
        """Add decisions to the plan that a resumed run must repeat.

        Raises:
            FatalError: The file cannot be written.
        """
        if self.plan.items() >= facts.items():
            return
        self.plan |= facts
        try:
            write_plan(self.folder, self.plan)
        except OSError as error:
            raise _refused(self.folder / PLAN, error) from error

    def begin(self) -> None:
        """Mark the start of answering: progress counts from here, and the record of an earlier failure is deleted."""
        try:
            for name in ("failed.json", "failed.partial"):
                (self.folder / name).unlink(missing_ok=True)
            self.sign(time.time(), len(self.done))
        except OSError as error:
            raise _refused(self.folder, error) from error

    def fail(self, error: BaseException) -> None:
        """Record in the folder why the run failed."""
        said = str(error) if isinstance(error, ParbenchError) else f"{type(error).__name__}: {error}"
        details = "" if isinstance(error, ParbenchError) else "".join(traceback.format_exception(error))
        _write(self.folder / "failed.json", json.dumps({"reason": said, "details": details}, indent=2) + "\n")

    def append(self, lines: Iterable[SampleRecord]) -> None:
        """Append new samples; they are on disk when this returns.

        Raises:
            FatalError: The file cannot be written; complete lines are kept.
        """
        fresh = [line for line in lines if line.id not in self.done]
        _append(self.samples_path, [line.to_json() for line in fresh])
        self.done |= {line.id: line for line in fresh}

    def add_layouts(self, layouts: Iterable[Layout]) -> None:
        """Store where the tokens of images lie, once for each size of image.

        Raises:
            FatalError: The file cannot be written.
        """
        fresh = {layout.size: layout for layout in layouts if layout.size not in self.layouts}
        if fresh:
            _append(self.folder / LAYOUTS, [layout.to_json() for layout in fresh.values()])
            self.layouts |= fresh.keys()

    def finish(self, metrics: RunMetrics) -> None:
        """Write the metrics, which marks the run as finished.

        Raises:
            FatalError: The file cannot be written; no sample is lost.
        """
        _write(self.metrics_path, json.dumps(metrics.to_json(), indent=2) + "\n")


def computing(folder: Path) -> LockOwner | None:
    """The process that is computing the run of a folder; None if there is none."""
    return lock_owner(folder / LOCK)


def _refused(path: Path, error: OSError) -> FatalError:
    return FatalError(
        f"{path} cannot be written ({error.strerror}): make room or make it writable, then run the same command again; it goes on "
        "where it stopped"
    )


def _cut(path: Path) -> None:
    """Remove the incomplete last line that a killed process leaves in a file of lines, if the file exists."""
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        with path.open("r+b") as file:
            file.truncate(whole)


def _append(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines; they are on disk when this returns."""
    try:
        with path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _refused(path, error) from error


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise _refused(path, error) from error
