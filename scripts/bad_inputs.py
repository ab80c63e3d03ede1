"""Runs command lines that a person can get wrong, each in a process of its own, and prints a table: message, exit code, seconds.

python scripts/bad_inputs.py > bad_inputs.md
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from bad_inputs import BAD_INPUTS, BadInput, prepare


def row(one: BadInput, folder: Path, environment: dict[str, str]) -> str:
    """A line of the table."""
    path = os.pathsep.join(filter(None, (str(folder / "mine"), os.environ.get("PYTHONPATH"))))
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "parbench", *one.words],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    said = " ".join(done.stderr.split()).replace("|", "\\|")
    needs = " (torch)" if one.torch else ""
    return f"| `{one.line}` | {said} | {done.returncode} | {seconds:.2f}{needs} |"


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = prepare(folder)
        print("| command line | message | exit code | seconds |\n|---|---|---:|---:|")
        for one in BAD_INPUTS:
            print(row(one, folder, environment), flush=True)


if __name__ == "__main__":
    main()
