"""A run's folder: identity, samples as they come, metrics at the end."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import yaml
from tqdm import tqdm

from parbench.errors import Halting, Held, ParbenchError
from parbench.files import write_whole
from parbench.results.run_identity import FILE, Provenance, joined, read_provenance, run_id

# Fields of a line and of the metrics that another machine, or another day, may change; nothing else may.
TIMING_FIELDS = ("seconds", "seconds_per_sample")
# What a file system says that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def without_timing(found: Mapping[str, Any]) -> dict[str, Any]:
    """A line or metrics, but for what may differ between two computations."""
    return {key: value for key, value in found.items() if key not in TIMING_FIELDS}


@dataclass(frozen=True)
class Holder:
    """Who computes a run.

    Attributes:
        pid: Its process; 0 where it has not said so yet.
        host: The machine that it runs on.
        since: When it began to answer, seconds since 1970; None: it is still getting ready.
        done: Samples that were there by then.
    """

    pid: int = 0
    host: str = ""
    since: float | None = None
    done: int = 0

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"


class RunStore:
    """The folder ``<root>/<id>`` of one run; a finished one is only read, any other is held until ``close``.

    Args:
        root: Folder of all runs.
        identity: Everything that can change a number; its hash names the folder.
        config: The whole configuration, kept for people to read.
        wait: Whether to wait, with a word, for a process that computes the run.

    Attributes:
        plan: What was settled once, so that a resumed run is planned in the same way: ``batch_size``, ``questions`` (how many
            there are in this run) and ``most``, the batch size that the device's memory turned out to hold.
        done: The samples that are there, by id, in order.

    Raises:
        Halting: The folder cannot be written.
        Held: Another process computes the run, and ``wait`` is off.
        ParbenchError: The folder is damaged, or holds another run.
    """

    def __init__(
        self, root: Path, identity: Mapping[str, Any], config: Mapping[str, Any], *, wait: bool = True
    ) -> None:
        self.id = run_id(identity)
        self.folder = Path(root) / self.id
        self.samples_path = self.folder / "samples.jsonl"
        self.metrics_path = self.folder / "metrics.json"
        # Shards of one run agree in the folder of the whole.
        self._whole = Path(root) / run_id({**identity, "shard": None})
        self._held: Any = None
        self.done: dict[str, dict[str, Any]] = {}
        self.plan: dict[str, Any] = {}
        try:
            if self.metrics_path.exists() and (self.folder / FILE).exists():
                self._check_identity()
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock(wait)
            self._claim(identity, config)
            self.plan = _settled(self.folder)
            self.done = {line["id"]: line for line in self._read()}
        except OSError as error:
            self.close()
            raise Halting(
                f"the results folder {self.folder} cannot be written ({error.strerror}): make it writable or choose another with "
                "results_dir=/path/to/folder"
            ) from error
        except BaseException:
            self.close()
            raise

    def _lock(self, wait: bool) -> None:
        """Held until ``close``; the system frees it when the holder dies. Whoever comes second waits, and then reads."""
        self._held = (self.folder / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = f"run {self.id} is being computed by {_read_holder(self._held)}"
            if not wait:
                raise Held(said) from None
            tqdm.write(f"{said}: waiting for it", file=sys.stderr)
            fcntl.flock(self._held, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise Halting(
                f"the file system of {self.folder} has no locks ({error.strerror}), so that two processes could write one run: "
                "mount it with locks (Lustre: -o flock) or choose another folder with results_dir=/path/to/folder"
            ) from error
        self._say_who(Holder(os.getpid(), socket.gethostname()))

    def _say_who(self, who: Holder) -> None:
        self._held.truncate(0)
        self._held.write(json.dumps(asdict(who)))
        self._held.flush()

    def close(self) -> None:
        """Let others have the folder."""
        if self._held is not None:
            # What a full disk did not take before, it does not take now; the lock goes all the same.
            with contextlib.suppress(OSError):
                self._held.close()

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

    def _read(self) -> list[dict[str, Any]]:
        """Complete lines; what a kill left half-written at the end is cut off."""
        if not self.samples_path.exists():
            return []
        data = self.samples_path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with self.samples_path.open("r+b") as file:
                file.truncate(whole)
        return read_lines(self.samples_path)

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The metrics of a finished run, else None.

        Raises:
            ParbenchError: The file is truncated.
        """
        if not self.metrics_path.exists():
            return None
        try:
            return json.loads(self.metrics_path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ParbenchError(
                f"{self.metrics_path} is damaged ({error}): delete it and run again; no sample is lost"
            ) from error

    @property
    def provenance(self) -> Provenance:
        """Identity of the run, and the code and devices that computed it so far.

        Raises:
            ParbenchError: The file is damaged.
        """
        path = self.folder / FILE
        try:
            return read_provenance(path)
        except ValueError as error:
            raise ParbenchError(f"{path} is damaged ({error}): move the folder away and run again") from error

    def record(self, *states: Mapping[str, Any]) -> None:
        """Add code and device that compute this run from now on to its provenance.

        Args:
            states: As of ``parbench.provenance.computed_by``.

        Raises:
            Halting: The disk refuses.
        """
        known = self.provenance
        by = joined([known.computed_by, states])
        if by != list(known.computed_by):
            _write(self.folder / FILE, Provenance(known.identity, tuple(by)).text())

    def batch_size(self, find: Callable[[], int]) -> int:
        """The batch size of this run and of all other shards of the whole: what the first of them found on its machine.

        Raises:
            Halting: The disk refuses.
        """
        if "batch_size" not in self.plan:
            try:
                self.settle(batch_size=_agreed(self._whole, find))
            except OSError as error:
                raise _refused(self._whole / "plan.json", error) from error
        return int(self.plan["batch_size"])

    def settle(self, **facts: Any) -> None:
        """Record facts that a resumed run needs.

        Raises:
            Halting: The disk refuses.
        """
        if self.plan.items() >= facts.items():
            return
        self.plan |= facts
        _settle(self.folder, self.plan)

    def begin(self) -> None:
        """From now on samples are answered: progress counts from here, and an earlier failure is history."""
        try:
            for name in ("failed.json", "failed.partial"):
                (self.folder / name).unlink(missing_ok=True)
            self._say_who(Holder(os.getpid(), socket.gethostname(), time.time(), len(self.done)))
        except OSError as error:
            raise _refused(self.folder, error) from error

    def fail(self, error: BaseException) -> None:
        """Say in the folder why the run was given up."""
        said = str(error) if isinstance(error, ParbenchError) else f"{type(error).__name__}: {error}"
        details = "" if isinstance(error, ParbenchError) else "".join(traceback.format_exception(error))
        _write(self.folder / "failed.json", json.dumps({"reason": said, "details": details}, indent=2) + "\n")

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add samples that are not there yet; they are on the disk when this returns.

        Raises:
            Halting: The disk refuses; what was complete stays.
        """
        fresh = [line for line in lines if line["id"] not in self.done]
        try:
            with self.samples_path.open("a", encoding="utf-8") as file:
                for line in fresh:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(self.samples_path, error) from error
        self.done |= {line["id"]: dict(line) for line in fresh}

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics; the run is finished from then on.

        Raises:
            Halting: The disk refuses; no sample is lost.
        """
        _write(self.metrics_path, json.dumps(metrics, indent=2) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a ``samples.jsonl``.

    Raises:
        ParbenchError: One is damaged.
    """
    data = path.read_bytes()
    lines = []
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), 1):
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ParbenchError(
                f"line {number} of {path} is damaged ({error}): delete the run's folder and run again"
            ) from error
    return lines


def count_lines(path: Path) -> int:
    """How many samples are there."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def holder(folder: Path) -> Holder | None:
    """Who computes the run of a folder at this moment, if anybody does."""
    try:
        with (folder / ".lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read_holder(file)
    except OSError:
        # Nobody ever held it, or not where this can be seen.
        pass
    return None


def _read_holder(file: IO[str]) -> Holder:
    file.seek(0)
    try:
        return Holder(**json.loads(file.read()))
    except (ValueError, TypeError):
        # It is writing just now.
        return Holder()


def _settled(folder: Path) -> dict[str, Any]:
    path = folder / "plan.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except json.JSONDecodeError as error:
        raise ParbenchError(f"{path} is damaged ({error}): delete the run's folder and run again") from error


def _settle(folder: Path, facts: Mapping[str, Any]) -> None:
    _write(folder / "plan.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")


def _agreed(folder: Path, find: Callable[[], int]) -> int:
    """The batch size in a folder's plan, put there now if there is none; of several processes the first one's counts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".plan.lock").open("a", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        facts = _settled(folder)
        if "batch_size" not in facts:
            facts["batch_size"] = find()
            _settle(folder, facts)
        return int(facts["batch_size"])


def _refused(path: Path, error: OSError) -> Halting:
    return Halting(
        f"{path} cannot be written ({error.strerror}): make room or make it writable, then run the same command again; it goes on "
        "where it stopped"
    )


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise _refused(path, error) from error
