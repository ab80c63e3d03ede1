"""Processes that compute cells, one a device, and what they say."""

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

# How long a process may take to end by itself when there is nothing left to do.
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Message:
    """What a process said.

    Attributes:
        worker: Which one.
        kind: One of ``parbench.sweep.devices.worker``'s; ``text`` for a line on its error output, ``gone`` when it has ended.
        content: The rest.
    """

    worker: Worker
    kind: str
    content: Mapping[str, Any]


class Worker:
    """A process on a device; it ends when this one does, however that ends.

    Args:
        device: By torch's name.
        threads: CPU threads that torch uses in it.
        number: Which of the processes it is.
        mailbox: Takes what it says.
    """

    def __init__(self, device: str, threads: int, number: int, mailbox: queue.Queue[Message]) -> None:
        self.device, self.number, self._mailbox = device, number, mailbox
        self.name = f"{device}:{number}" if device == "cpu" else device
        # It says what is heard here, and no more.
        level = _log.getEffectiveLevel()
        words = [sys.executable, "-m", "parbench.sweep.devices.worker", device, str(threads), str(level)]
        # In a group of its own it never sees Ctrl-C, which is this process's to deal with.
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
        # Its last words first.
        self._errors.join()
        self._mailbox.put(Message(self, "gone", {"how": _ended(self._process.wait())}))

    def _read_errors(self, said: IO[str]) -> None:
        with said:
            for line in said:
                if line.strip():
                    self._mailbox.put(Message(self, "text", {"line": line.rstrip()}))

    def send(self, task: Mapping[str, Any]) -> None:
        """Give it something to do; one that has ended says so by itself."""
        with contextlib.suppress(OSError):
            self._tasks.write(json.dumps(task) + "\n")
            self._tasks.flush()

    def stop(self, patience_s: float) -> None:
        """End it: at once, or when it has seen that nothing more is coming."""
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
    """The processes of a sweep; none is left when it is over.

    Args:
        threads: CPU threads of each.

    Attributes:
        workers: Those that run.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._mailbox: queue.Queue[Message] = queue.Queue()
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        """The pool itself; processes are started one by one."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End all processes, at once if something went wrong: answers are on the disk batch by batch."""
        for worker in self.workers:
            worker.stop(_PATIENCE_S if kind is None else 0.0)

    def start(self, devices: Iterable[tuple[int, str]]) -> list[Worker]:
        """Start a process on each of some numbered devices."""
        with _interrupts_held():
            started = [Worker(device, self._threads, number, self._mailbox) for number, device in devices]
            self.workers += started
        return started

    def hear(self) -> Message:
        """Wait for the next message of any process."""
        message = self._mailbox.get()
        if message.kind == "gone":
            self.workers.remove(message.worker)
            message.worker.stop(0.0)
        return message


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until this is over: a process half begun would be nobody's to end."""
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
    """How a process ended, in words."""
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when its memory runs out"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended by itself with exit code {code}"
