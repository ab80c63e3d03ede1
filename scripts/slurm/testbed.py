"""A SLURM cluster of one's own for tests: ``cluster`` with a folder and ports that are free."""

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
    """Why there can be no cluster here; empty where there can."""
    programs = [name for name in _PROGRAMS if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    if programs:
        return f"no SLURM here ({', '.join(programs)} not installed): scripts/slurm/install, on Debian as root"
    if os.geteuid():
        return "slurmd starts jobs as their owner, so a SLURM cluster has to be started by root"
    try:
        local = socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        local = False
    return "" if local else "this machine's name is no loopback address: scripts/slurm/install --hosts"


def until(true: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for something; an error if it does not come."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def results(runs: Path) -> dict[str, tuple[object, ...]]:
    """What finished runs in a folder are, by id: identity, samples and metrics, but for the seconds."""
    return {
        path.parent.name: (
            (path.parent / "provenance.json").read_text(),
            [without_timing(json.loads(line)) for line in (path.parent / "samples.jsonl").read_text().splitlines()],
            without_timing(json.loads(path.read_text())),
        )
        for path in runs.glob("*/metrics.json")
    }


class Cluster:
    """Two nodes of one CPU each, so that each has one job."""

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder = folder
        settings = {"NODES": nodes, "CPUS": 1, "MEMORY": 4000, "GPUS": 0, "PORT": _free(nodes + 3)}
        self.environment = {
            "PARBENCH_CLUSTER": str(folder),
            "SLURM_CONF": str(folder / "slurm.conf"),
            **{f"CLUSTER_{key}": str(value) for key, value in settings.items()},
        }

    def __call__(self, *words: str) -> None:
        """start, stop, crash NODE or boot NODE."""
        environment = {**os.environ, **self.environment}
        # In a session of its own: Ctrl-C on the terminal must not keep it from stopping what it started.
        subprocess.run([SCRIPT, *words], check=True, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)

    def ask(self, *command: str) -> str:
        """What one of Slurm's programs answers."""
        return subprocess.run(
            command, check=True, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        ).stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """State and node of each job that is not over."""
        lines = self.ask("squeue", "--noheader", "--array", "--format=%i|%T|%N").splitlines()
        return {job: (state, node) for job, state, node in (line.split("|") for line in lines)}

    def restarts(self, job: str) -> int:
        """How often a job was requeued."""
        words = self.ask("scontrol", "show", "job", job).split()
        return next(int(word.partition("=")[2]) for word in words if word.startswith("Restarts="))


def _free(count: int) -> int:
    """The first of so many neighbouring ports that nobody listens on."""
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
