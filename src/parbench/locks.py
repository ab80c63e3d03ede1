"""A lock between processes, also on several machines that share a file system. It is released when its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Self


@dataclass(frozen=True)
class LockOwner:
    """The process that holds a lock.

    Attributes:
        pid: Its process id; 0 if unknown.
        host: Name of its machine.
        since: When it started its work, in seconds since 1970; None if it is still loading.
        done: How much of the work was done before it started, such as a number of samples.
    """

    pid: int = 0
    host: str = ""
    since: float | None = None
    done: int = 0

    @classmethod
    def this(cls, since: float | None = None, done: int = 0) -> Self:
        """This process."""
        return cls(os.getpid(), socket.gethostname(), since, done)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "another process"


class FileLock:
    """An exclusive lock on a file, which is created if it is missing. The constructor waits until it has the lock.

    As a context manager it releases the lock at the end.

    Args:
        path: The file; its folder must exist.
        busy: Called with the owner if another process has the lock, before waiting. It may raise an error instead.

    Raises:
        OSError: The file cannot be opened, or its file system has no locks.
    """

    def __init__(self, path: Path, busy: Callable[[LockOwner], object] = lambda owner: None) -> None:
        self.path = path
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        try:
            self._acquire(busy)
        except BaseException:
            self.release()
            raise

    def _acquire(self, busy: Callable[[LockOwner], object]) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy(_owner_in(self._file))
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def sign(self, owner: LockOwner) -> None:
        """Write the owner of the lock to the file."""
        self._file.truncate(0)
        self._file.write(json.dumps(asdict(owner)))
        self._file.flush()

    def release(self) -> None:
        """Release the lock."""
        # Closing writes what a full disk refused before and fails again. The lock is released all the same.
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_owner(path: Path) -> LockOwner | None:
    """The process that currently holds the lock on a file; None if there is none, or if the file cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _owner_in(file)
    except OSError:
        pass
    return None


def _owner_in(file: IO[str]) -> LockOwner:
    file.seek(0)
    try:
        return LockOwner(**json.loads(file.read()))
    except (ValueError, TypeError):
        # The owner has not written its name yet, or is writing it now.
        return LockOwner()
