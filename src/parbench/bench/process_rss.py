"""Peak memory of whole evaluations, each in its own process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from parbench.errors import ParbenchError

_EVERY = 0.2


def peak_bytes(words: Sequence[str]) -> int | None:
    """Peak resident set of ``parbench eval WORDS`` in bytes, with a temporary results folder.

    Read from the process while it runs, because the figure that a parent gets for a child includes the parent's size. None on
    systems other than Linux.

    Raises:
        ParbenchError: The evaluation failed.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "parbench", "eval", *words, f"results_dir={folder}"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        peak: int | None = None
        while process.returncode is None:
            peak = _high_water(process.pid) or peak
            try:
                process.wait(_EVERY)
            except subprocess.TimeoutExpired:
                continue
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ParbenchError(f"parbench eval {' '.join(words)} failed: {''.join(last)}")
    return peak


def _high_water(process: int) -> int | None:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return None
    # In KiB; not available after the process has ended.
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) << 10 if found else None
