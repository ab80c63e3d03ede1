"""What the tests of faults share: files compared byte by byte, processes that die, disks that are full."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import parbench
from parbench.models.adapter import ModelAdapter
from parbench.results.record import TIMING_FIELDS

_OURS = str(Path(parbench.__file__).parent)
TIMES = re.compile(rb'"(%s)": [^,}\n]+' % "|".join(TIMING_FIELDS).encode())


def contents(folder: Path) -> dict[str, bytes]:
    """All files of all runs, timing aside; lock files hold nothing that stays."""
    return {
        str(path.relative_to(folder)): TIMES.sub(rb'"\1": 0', path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", ".plan.lock")
    }


def killed_at(step: int, work: Callable[[], None]) -> bool:
    """Whether a process that does the work was killed before it executed its step-th line in parbench's own code."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    count = 0

    def trace(frame, event, _argument):
        nonlocal count
        if not frame.f_code.co_filename.startswith(_OURS):
            return None
        count += event == "line"
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def _mount(*words: str | Path) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a disk that is full or read-only needs the right to mount one ({done.stderr.strip()})")


@contextlib.contextmanager
def entering(adapter: ModelAdapter, look: Callable[[int, int], None]) -> Iterator[None]:
    """Before each forward of the LLM, ``look`` is told how many rows it has and how many tokens a row, padding included.

    What it raises comes from inside the forward, as the device's own errors do.
    """

    def told(_layer, args, kwargs):
        rows, tokens, _ = (args[0] if args else kwargs["hidden_states"]).shape
        look(rows, tokens)

    with adapter.language.layers[0].register_forward_pre_hook(told, with_kwargs=True):
        yield


class Disk:
    """A small file system in memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder)

    def resize(self, size: str) -> None:
        _mount("-o", f"remount,size={size}", self.folder)

    def remove(self) -> None:
        subprocess.run(["umount", self.folder], check=True)


@pytest.fixture
def disk(folder):
    made = Disk(folder / "disk")
    yield made
    made.remove()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that can be read only, also by who has files in it open."""
    _mount("--bind", folder, folder)
    try:
        _mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
