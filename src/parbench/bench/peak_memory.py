"""Peak memory of a block, relative to the memory before it."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Peak:
    """Memory in bytes; None if the system does not report it.

    Attributes:
        before: In use before the block: weights and other permanent data.
        over: Peak inside the block minus ``before``.
    """

    before: int | None = None
    over: int | None = None


def how(device: torch.device) -> str:
    """How memory is measured on a device, as text."""
    if device.type == "cuda":
        return "torch's CUDA allocator: peak allocation during a pass minus the allocation before it"
    if _resettable():
        return "peak resident set of the process during a pass (VmHWM, reset before) minus its resident set before it"
    return "not reported by this system"


@contextmanager
def watch_peak(device: torch.device) -> Iterator[Peak]:
    """Yield the peak memory of the block, which is set when the block ends."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        peak.before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.over = torch.cuda.max_memory_allocated(device) - peak.before
        return
    if not _resettable():
        yield peak
        return
    # Freed memory that the C library keeps would hide later allocations.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    _RESET.write_text("5")
    peak.before = _status("VmRSS")
    yield peak
    peak.over = max(0, _status("VmHWM") - peak.before)


def _resettable() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return _STATUS.is_file()


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{_STATUS} does not tell {name}")
    return 1024 * int(found.group(1))
