"""Peak memory of whole evaluations, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from parbench.errors import ParbenchError


def peak_bytes(words: Sequence[str]) -> int:
    """Greatest resident set of ``parbench eval WORDS``, from start to end, with a results folder of its own.

    Raises:
        ParbenchError: The evaluation failed.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "parbench.cli", "eval", *words, f"results_dir={folder}"]
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ParbenchError(f"parbench eval {' '.join(words)} failed: {''.join(last)}")
    # Linux counts in KiB, macOS in bytes.
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
