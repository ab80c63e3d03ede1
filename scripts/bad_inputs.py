"""Runs wrong command lines, each in its own process, and prints a table of messages, exit codes and seconds.

The table also has CPU seconds, which depend less on other programs on the machine.

    python scripts/bad_inputs.py > bad_inputs.md
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from bad_inputs import BAD_INPUTS, BadInput, prepare


def row(one: BadInput, folder: Path, environment: dict[str, str]) -> str:
    """Run a command line and return its row of the table."""
    path = os.pathsep.join(filter(None, (str(folder / "mine"), os.environ.get("PYTHONPATH"))))
    begun, used = time.perf_counter(), _cpu()
    done = subprocess.run(
        [sys.executable, "-m", "parbench", *one.words],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds, cpu = time.perf_counter() - begun, _cpu() - used
    said = " ".join(done.stderr.split()).replace("|", "\\|")
    needs = " (torch)" if one.torch else ""
    return f"| `{one.line}` | {said} | {done.returncode} | {seconds:.2f} | {cpu:.2f}{needs} |"


def _cpu() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = prepare(folder)
        print("| command line | message | exit code | seconds | CPU seconds |\n|---|---|---:|---:|---:|")
        for one in BAD_INPUTS:
            print(row(one, folder, environment), flush=True)


if __name__ == "__main__":
    main()
