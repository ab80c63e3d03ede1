"""How the C library keeps memory that is freed: a setting of the whole process, so only a process of parbench's own changes it."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's mallopt: above which size freed memory at the heap's end goes back to the system, and how many allocations may be
# mapped from it one by one.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_own = False


def own_process() -> None:
    """Say that this process runs parbench and nothing else: the command line, or a worker that it started."""
    global _own
    _own = True


def keep_freed() -> bool:
    """Let a process on a CPU use memory again that it has freed, rather than ask the system for it anew for every large tensor.

    The system hands memory out zeroed, page by page, which takes a fifth of an evaluation's CPU time. What the process holds at
    most stays about the same, but it holds it until its end.

    Returns:
        Whether the C library was told: only Linux's glibc can be, and only in a process of parbench's own, see :func:`own_process`.
    """
    if not _own or not sys.platform.startswith("linux"):
        return False
    try:
        tell = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(tell(_MMAP_MAX, 0)) and bool(tell(_TRIM_THRESHOLD, 2**31 - 1))
