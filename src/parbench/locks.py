"""A lock between processes, also of several machines that share a file system; the system frees it when its holder dies."""

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
    """Who has a lock.

    Attributes:
        pid: Its process; 0 where it has not said so.
        host: The machine that it runs on.
        since: When it began its work, seconds since 1970; None: it is still getting ready.
        done: How much of the work was done by then.
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
    """An exclusive lock on a file, which is made if it is not there; also a context manager that waits for it.

    Args:
        path: The file; its folder is there.
        busy: Is told who has the lock before this process waits for it; raises in order not to wait.

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
        """Say in the file who has the lock."""
        self._file.truncate(0)
        self._file.write(json.dumps(asdict(owner)))
        self._file.flush()

    def release(self) -> None:
        """Let others have it."""
        # What a full disk did not take before, it does not take now; the lock goes all the same.
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_owner(path: Path) -> LockOwner | None:
    """Who has the lock on a file at this moment; None where nobody has it, or where that cannot be seen."""
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
        # It is writing just now.
        return LockOwner()
