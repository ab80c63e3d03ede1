"""A private SLURM cluster for tests: runs the script ``cluster`` with its own folder and free ports."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from parbench.results.record import without_timing

SCRIPT = Path(__file__).parent / "cluster"
_PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch")


def missing() -> str:
    """The reason why no cluster can be started on this machine; empty if one can."""
    programs = [name for name in _PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if programs:
        return f"SLURM is missing ({', '.join(programs)} not installed): run scripts/slurm/install as root on Debian"
    if os.geteuid():
        return "a SLURM cluster must be started by root, since slurmd starts jobs as their owner"
    try:
        local = socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        local = False
    return "" if local else "the host name is not a loopback address: run scripts/slurm/install --hosts"


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition is true.

    Args:
        true: The condition.
        seconds: Maximum time.
        what: Name of the condition, for the error message.

    Raises:
        AssertionError: The condition did not become true in time.
    """
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def results(runs: Path) -> dict[str, tuple[object, ...]]:
    """Identity, samples and metrics of the finished runs in a folder, by id, without timing."""
    return {
        path.parent.name: (
            (path.parent / "provenance.json").read_text(),
            [without_timing(json.loads(line)) for line in (path.parent / "samples.jsonl").read_text().splitlines()],
            without_timing(json.loads(path.read_text())),
        )
        for path in runs.glob("*/metrics.json")
    }


class Cluster:
    """A cluster whose nodes have one CPU each, so that each runs one job.

    Args:
        folder: Folder for its configuration, state and logs.
        nodes: Number of nodes.
    """

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder = folder
        settings = {"NODES": nodes, "CPUS": 1, "MEMORY": 4000, "GPUS": 0, "PORT": _free(nodes + 3)}
        self.environment = {
            "PARBENCH_CLUSTER": str(folder),
            "SLURM_CONF": str(folder / "slurm.conf"),
            **{f"CLUSTER_{key}": str(value) for key, value in settings.items()},
        }

    def __call__(self, *words: str) -> None:
        """Run the script ``cluster``: start, stop, crash NODE or boot NODE."""
        environment = {**os.environ, **self.environment}
        # In a new session, so that Ctrl-C in the terminal does not prevent it from stopping the cluster.
        subprocess.run([SCRIPT, *words], check=True, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)

    def ask(self, *command: str) -> str:
        """Run one of Slurm's programs and return its output."""
        return subprocess.run(
            command, check=True, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        ).stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """State and node of each job that has not ended."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i|%T|%N").splitlines()
        return {job: (state, node) for job, state, node in (line.split("|") for line in lines)}

    def restarts(self, job: str) -> int:
        """How often a job was requeued."""
        words = self.ask("scontrol", "show", "job", job).split()
        return next(int(word.partition("=")[2]) for word in words if word.startswith("Restarts="))


def _free(count: int) -> int:
    """The first of ``count`` consecutive free ports."""
    for first in range(27817, 60000, 50):
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.create_server(("127.0.0.1", port)))
            return first
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")
