"""Reuse of freed memory by the C library.

The setting affects the whole process, so it is only changed in parbench's own processes.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt: the size above which freed memory at the end of the heap is returned to the system, and the
# number of allocations that may be mapped separately.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_own = False


def own_process() -> None:
    """Declare that this process runs only parbench: the command line, or a worker that it started."""
    global _own
    _own = True


def keep_freed() -> bool:
    """Make a process on a CPU reuse freed memory, instead of requesting it from the system for every large tensor.

    The system hands out zeroed memory page by page, which takes a fifth of an evaluation's CPU time. Peak memory stays about the
    same, but the process keeps it until its end.

    Returns:
        Whether the setting was made. It needs glibc on Linux, and a process of parbench's own, see :func:`own_process`.
    """
    if not _own or not sys.platform.startswith("linux"):
        return False
    try:
        tell = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(tell(_MMAP_MAX, 0)) and bool(tell(_TRIM_THRESHOLD, 2**31 - 1))
