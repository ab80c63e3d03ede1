"""Peak memory of what runs inside, beyond what was there before."""

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
    """Bytes, None where the system does not tell.

    Attributes:
        before: In use when it began: weights, and whatever else stays.
        over: The greatest use meanwhile, less ``before``.
    """

    before: int | None = None
    over: int | None = None


def how(device: torch.device) -> str:
    """What the figures are on a device, in words."""
    if device.type == "cuda":
        return "torch's CUDA allocator: greatest allocation during a pass, less what was allocated before it"
    if _resettable():
        return "the process's greatest resident set during a pass (VmHWM, set back before), less its resident set before it"
    return "not told by this system"


@contextmanager
def watch_peak(device: torch.device) -> Iterator[Peak]:
    """The peak of what runs inside; filled in when it ends."""
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
    # What the C library holds back of freed memory would hide what is taken next.
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
