"""Causes faults on a real SLURM cluster, and reports how a sweep handles each and how long it takes.

    python scripts/slurm/faults.py [FAULT ...]

Each fault has its own cluster and results folder. The quick ones are also tested in tests/sweep/test_slurm.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import Cluster, missing, results, until

# Six cells. On a cluster of two nodes with one CPU each, there is one job per node.
WORDS = (
    "sweep",
    "methods=[random,uniform]",
    "budgets=[64]",
    "controls=[]",
    "limit=200",
    "dataset=scenes,scenes_relation",
    "results_dir=runs",
)
SLURM = ("launcher=slurm", "launcher.mem_gb=1", "launcher.poll_s=1")


@dataclass
class Scene:
    """A sweep on a cluster.

    Attributes:
        cluster: The cluster.
        folder: Working directory of the command.
        command: The running ``parbench sweep``; None before it starts.
        began: Time of the first start, in seconds of the monotonic clock.
        said: Its standard error, after it ended.
    """

    cluster: Cluster
    folder: Path
    command: subprocess.Popen[str] | None = None
    began: float = 0.0
    said: str = ""

    def start(self, *words: str) -> None:
        """Start the sweep, or start it again."""
        command = [sys.executable, "-m", "parbench", *WORDS, *SLURM, *words]
        environment = {**os.environ, **self.cluster.environment, "OMP_NUM_THREADS": "1"}
        self.began = self.began or time.monotonic()
        self.command = subprocess.Popen(command, cwd=self.folder, env=environment, stderr=subprocess.PIPE, text=True)

    def until_answers(self) -> None:
        """Wait until both jobs have written answers."""
        until(lambda: len(list((self.folder / "runs").glob("*/samples.jsonl"))) >= 2, 90, "first answers")

    def job_on(self, node: str) -> str:
        """The job on a node."""
        return next(job for job, (_, where) in self.cluster.jobs().items() if where == node)

    def end(self) -> int:
        """Wait for the end of the command and return its exit code."""
        assert self.command is not None
        self.said = self.command.communicate()[1]
        return self.command.returncode

    def seconds(self) -> float:
        """Seconds since the first start."""
        return time.monotonic() - self.began


def undisturbed(scene: Scene) -> str:
    """A sweep without a fault, for comparison."""
    scene.start()
    return f"exit {scene.end()}"


def cancelled(scene: Scene) -> str:
    """Cancel one of the jobs with ``scancel``, then run the same command again."""
    scene.start()
    scene.until_answers()
    scene.cluster.ask("scancel", scene.job_on("n2"))
    first = scene.end()
    # The last line names the failure.
    named = scene.said.splitlines()[-1].strip()
    scene.start()
    return f"exit {first} ({named}); again: exit {scene.end()}"


def crashed(scene: Scene) -> str:
    """Kill a node's slurmd and the processes of its job with SIGKILL; restart the node after a minute."""
    scene.start()
    scene.until_answers()
    job = scene.job_on("n2")
    scene.cluster("crash", "n2")
    at = scene.seconds()
    until(lambda: scene.cluster.jobs().get(job, ("", ""))[0] in ("PENDING", ""), 120, "Slurm to notice")
    noticed = scene.seconds() - at
    time.sleep(max(0.0, 60 - noticed))
    scene.cluster("boot", "n2")
    code = scene.end()
    return f"noticed after {noticed:.0f} s, {scene.cluster.restarts(job)} restart, exit {code}"


def preempted(scene: Scene) -> str:
    """Preempt a job for 5 s, by a job of a partition with higher priority."""
    scene.start("launcher.partition=main")
    scene.until_answers()
    job = scene.job_on("n2")
    scene.cluster.ask("sbatch", "--partition=urgent", "--nodelist=n2", "--output=/dev/null", "--wrap=sleep 5")
    code = scene.end()
    return f"{scene.cluster.restarts(job)} restart, exit {code}"


def out_of_time(scene: Scene) -> str:
    """Set a time limit of one minute, and a signal to the jobs 35 s before it."""
    scene.start("launcher.timeout_min=1", "launcher.signal_delay_s=35")
    until(lambda: len(scene.cluster.jobs()) == 2, 90, "the jobs")
    jobs = list(scene.cluster.jobs())
    code = scene.end()
    return f"{sum(map(scene.cluster.restarts, jobs))} restarts of {len(jobs)} jobs, exit {code}"


def controller_restarted(scene: Scene) -> str:
    """Kill slurmctld with SIGKILL during the sweep; restart it after 20 s."""
    scene.start()
    scene.until_answers()
    os.kill(int((scene.cluster.folder / "pid" / "slurmctld").read_text()), signal.SIGKILL)
    time.sleep(20)
    subprocess.run(["slurmctld"], check=True, env={**os.environ, **scene.cluster.environment})
    return f"exit {scene.end()}"


def waiting_killed(scene: Scene) -> str:
    """Kill the command on the login node with SIGKILL, then run the same command again."""
    scene.start()
    scene.until_answers()
    assert scene.command is not None
    scene.command.kill()
    scene.end()
    scene.start()
    code = scene.end()
    handed = (scene.folder / "runs" / ".slurm" / "jobs.jsonl").read_text().count("\n")
    return f"{handed} jobs submitted, exit {code}"


FAULTS: dict[str, Callable[[Scene], str]] = {
    "undisturbed": undisturbed,
    "scancel": cancelled,
    "node crash": crashed,
    "preemption": preempted,
    "time limit": out_of_time,
    "slurmctld killed": controller_restarted,
    "waiting command killed": waiting_killed,
}


def main(names: list[str]) -> int:
    """Run faults and print a table.

    Args:
        names: Names of faults; empty for all.

    Returns:
        The exit code: 1 if a result differs from that of a local sweep, 2 if there can be no cluster.
    """
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    place = Path(tempfile.mkdtemp(prefix="parbench-", dir="/tmp"))
    try:
        (place / "local").mkdir()
        command = [sys.executable, "-m", "parbench", *WORDS]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=place / "local", check=True, env=environment, stdout=subprocess.DEVNULL)
        expected = results(place / "local" / "runs")
        rows = []
        for name in names or FAULTS:
            rows.append(run(name, place, expected))
            print(markdown(rows[-1]), flush=True)
    finally:
        shutil.rmtree(place)
    heads = ("fault", "outcome", "seconds", "cells", "files")
    print(*map(markdown, (heads, ["---"] * len(heads), *rows)), sep="\n")
    return int(any(row[-1] != "as local" for row in rows))


def markdown(row: Sequence[object]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, row))} |"


def run(name: str, place: Path, expected: dict[str, tuple[object, ...]]) -> tuple[object, ...]:
    """Run a fault on a new cluster.

    Args:
        name: Name of the fault.
        place: Folder for the cluster and the results.
        expected: The results of a local sweep.

    Returns:
        The row of the table: fault, outcome, seconds, cells, files.
    """
    folder = place / name.replace(" ", "-")
    (folder / "work").mkdir(parents=True)
    scene = Scene(Cluster(folder / "cluster"), folder / "work")
    scene.cluster("start")
    try:
        came = FAULTS[name](scene)
        seconds = scene.seconds()
    finally:
        if scene.command is not None and scene.command.poll() is None:
            scene.command.kill()
        scene.cluster("stop")
    found = results(scene.folder / "runs")
    return name, came, f"{seconds:.0f}", len(found), "as local" if found == expected else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
