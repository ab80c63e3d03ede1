"""Worker processes that compute runs, one per device, and their messages."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import IO, Any

_log = logging.getLogger(__name__)

# How long a process may take to exit when there is nothing left to do.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Message:
    """A message of a worker process.

    Attributes:
        worker: The sender.
        kind: A kind from ``parbench.sweep.devices.worker``, ``text`` for a line on stderr, or ``gone`` when it has exited.
        content: The message's other fields.
    """

    worker: Worker
    kind: str
    content: Mapping[str, Any]


class Worker:
    """A process on a device; it exits when the parent process does, whatever the cause.

    Args:
        device: By torch's name.
        threads: CPU threads that torch uses in it.
        number: Its index among the processes.
        mailbox: Queue for its messages.
    """

    def __init__(self, device: str, threads: int, number: int, mailbox: queue.Queue[Message]) -> None:
        self.device, self.number, self._mailbox = device, number, mailbox
        self.name = f"{device}:{number}" if device == "cpu" else device
        # It logs at the same level as this process.
        level = _log.getEffectiveLevel()
        words = [sys.executable, "-m", "parbench.sweep.devices.worker", device, str(threads), str(level)]
        # In its own process group it does not get Ctrl-C, which this process handles.
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        )
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        self._tasks = self._process.stdin
        self._errors = threading.Thread(target=self._read_errors, args=(self._process.stderr,), daemon=True)
        self._errors.start()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, said: IO[str]) -> None:
        with said:
            for line in said:
                message = json.loads(line)
                self._mailbox.put(Message(self, message.pop("kind"), message))
        # Pass on its last output first.
        self._errors.join()
        self._mailbox.put(Message(self, "gone", {"how": _ended(self._process.wait())}))

    def _read_errors(self, said: IO[str]) -> None:
        with said:
            for line in said:
                if line.strip():
                    self._mailbox.put(Message(self, "text", {"line": line.rstrip()}))

    def send(self, task: Mapping[str, Any]) -> None:
        """Send it a task; if it has exited, its ``gone`` message follows anyway."""
        with contextlib.suppress(OSError):
            self._tasks.write(json.dumps(task) + "\n")
            self._tasks.flush()

    def stop(self, patience_s: float) -> None:
        """Close its input and wait up to ``patience_s`` seconds before killing it; 0 kills it at once."""
        with contextlib.suppress(OSError):
            self._tasks.close()
        try:
            if not patience_s:
                self._process.kill()
            self._process.wait(patience_s or None)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Pool:
    """The processes of a sweep; all of them have exited when the context closes.

    Args:
        threads: CPU threads of each.

    Attributes:
        workers: The running processes.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._mailbox: queue.Queue[Message] = queue.Queue()
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        """This pool; processes are started by :meth:`start`."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all processes, immediately after an error: answers are on disk batch by batch."""
        for worker in self.workers:
            worker.stop(_PATIENCE_S if kind is None else 0.0)

    def start(self, devices: Iterable[tuple[int, str]]) -> list[Worker]:
        """Start a process on each of the devices, given as (index, torch name)."""
        with _interrupts_held():
            started = [Worker(device, self._threads, number, self._mailbox) for number, device in devices]
            self.workers += started
        return started

    def hear(self) -> Message:
        """Wait for the next message from any process."""
        message = self._mailbox.get()
        if message.kind == "gone":
            self.workers.remove(message.worker)
            message.worker.stop(0.0)
        return message


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay Ctrl-C until exit, so that no process is started without being tracked."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held and callable(before):
        before(*held[0])


def _ended(code: int) -> str:
    """How a process ended, in words, from its exit code."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when its memory runs out"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"
