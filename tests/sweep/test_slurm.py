"""Sweeps on a real SLURM cluster of two nodes (``scripts/slurm/cluster``); slower faults: scripts/slurm/faults.py."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from helpers import identity_of, refused
from parbench.cli import main
from testbed import SCRIPT, Cluster, missing, results, until

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "there is SLURM"),
    pytest.mark.external,
]

# A job that stands still in the middle of a cell meets its fault there, on a machine of any speed.
METHOD = '''
import os
import time
from dataclasses import dataclass
from parbench.reducers.random import Random

@dataclass
class Pausing(Random):
    """Keeps random tokens; from its third call on it takes as long as PAUSE says, in seconds."""

    title = "pausing"
    control = False
    calls = 0

    def reduce(self, features, probes):
        Pausing.calls += 1
        if Pausing.calls > 2:
            time.sleep(float(os.environ.get("PAUSE", "0")))
        return super().reduce(features, probes)
'''
CONFIG = "_target_: pausing.Pausing\nname: pausing\nbudget: 64\nplace: before_projector\npositions: compact\nseed: 0\n"

# Three cells a data set.
DATASETS = ("scenes", "scenes_relation")
ONE = ("sweep", "methods=[pausing]", "controls=[]", "limit=32", "engine.batch_size=4", "results_dir=runs")
SIX = (*ONE, "budgets=[64,32]", f"dataset={','.join(DATASETS)}")
SLURM = ("launcher=slurm", "launcher.mem_gb=1", "launcher.poll_s=1")
# Until a job is put back into the queue.
STANDING_STILL = "launcher.setup=['export PAUSE=$((SLURM_RESTART_COUNT ? 0 : 1000))']"


@pytest.fixture(scope="module", autouse=True)
def method(tmp_path_factory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("pausing")
    (folder / "method").mkdir()
    (folder / "pausing.py").write_text(METHOD)
    (folder / "method" / "pausing.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARBENCH_SEARCHPATH", str(folder))
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(folder)
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Paths of sockets are short.
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="parbench-", dir="/tmp")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
        # Each job has one CPU.
        patch.setenv("OMP_NUM_THREADS", "1")
        try:
            cluster("start")
            yield cluster
        finally:
            cluster("stop")
            shutil.rmtree(cluster.folder)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, tuple]:
    """What a local sweep of the six cells writes."""
    folder = tmp_path_factory.mktemp("local")
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        torch.set_num_threads(1)
        try:
            assert main(list(SIX)) == 0
        finally:
            torch.set_num_threads(threads)
    found = results(folder / "runs")
    assert len(found) == 6
    return found


@pytest.fixture
def started(run, cluster) -> Iterator[Callable[..., Future]]:
    """Run a command beside the test."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda *words: pool.submit(run, *words)
        # A test that failed leaves jobs, and a command that waits for them.
        cluster.ask("scancel", "--full", "--user=root")


def answers(folder: Path, dataset: str) -> int:
    """How many samples of the first cell that stands still are there."""
    for path in (folder / "runs").glob("*/samples.jsonl"):
        identity = identity_of(path.parent)
        if (identity["method"]["name"], identity["dataset"]["name"]) == ("pausing", dataset):
            return path.read_bytes().count(b"\n")
    return 0


def jobs(folder: Path) -> list[tuple[str, list[str]]]:
    """Ids and words of the jobs handed in."""
    ledger = folder / "runs" / ".slurm" / "jobs.jsonl"
    lines = map(json.loads, ledger.read_text().splitlines()) if ledger.exists() else ()
    return [(line["job"], line["words"]) for line in lines]


def met_in_the_middle(cluster: Cluster, folder: Path) -> dict[str, str]:
    """Wait until both jobs stand still; the job of each node."""
    until(lambda: all(answers(folder, name) for name in DATASETS), 150, "answers of both jobs")
    return {node: job for job, (_, node) in cluster.jobs().items()}


def status(folder: Path) -> list[dict]:
    command = [sys.executable, "-m", "parbench", "status", "results_dir=runs", "--json"]
    return json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)


def test_a_job_that_is_cancelled_and_a_node_that_crashes(run, started, cluster, folder, expected):
    first = started(*SIX, *SLURM, STANDING_STILL)
    job_on = met_in_the_middle(cluster, folder)
    found = status(folder)
    assert sorted(one["state"] for one in found) == ["done"] * 2 + ["running"] * 2 + ["waiting"] * 2
    assert all(0 < one["done"] < one["total"] == 32 and one["holder"] for one in found if one["state"] == "running")
    cluster.ask("scancel", job_on["n1"])
    cluster("crash", "n2")
    until(lambda: job_on["n1"] not in cluster.jobs(), 60, "the end of the cancelled job")
    cluster("boot", "n2")
    # A second command beside the first hands in what was cancelled and waits for the other job.
    code, _, err = run(*SIX, *SLURM)
    other_code, _, other_err = first.result(60)
    # Who ends first has read what both said.
    assert (code, other_code) == (0, 0), err + other_err
    assert f"job {job_on['n2']} of an earlier command goes on" in err + other_err
    assert cluster.restarts(job_on["n2"]) == 1
    assert results(folder / "runs") == expected
    # Finished: no job is handed in, the tables are the same.
    code, out, _ = run(*SIX, *SLURM)
    assert code == 0
    assert all(f"llava-tiny on {name} (test): 32 questions" in out for name in DATASETS)
    assert len(jobs(folder)) == 3


def test_a_job_that_is_pushed_out_and_one_that_runs_out_of_time(started, cluster, folder, expected):
    # Told between 30 and 60 s after its start, since Slurm looks every 30 s.
    limits = ("launcher.timeout_min=2", "launcher.signal_delay_s=60", "launcher.partition=main")
    sweep = started(*SIX, *SLURM, *limits, STANDING_STILL)
    until(lambda: answers(folder, DATASETS[0]) or answers(folder, DATASETS[1]), 150, "answers")
    job_on = {node: job for job, (_, node) in cluster.jobs().items()}
    cluster.ask("sbatch", "--partition=urgent", "--nodelist=n1", "--output=/dev/null", "--wrap=true")
    code, _, err = sweep.result(400)
    assert code == 0, err
    assert all(cluster.restarts(job) for job in job_on.values())
    logs = [path.read_text() for path in (folder / "runs" / ".slurm" / job_on["n2"]).glob("*_log.*")]
    assert "this job is timed-out" in "".join(logs)
    assert results(folder / "runs") == expected


def test_shards_that_nobody_waits_for_any_more(run, started, cluster, folder, expected, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    setup = 'launcher.setup=["echo offline=$HF_HUB_OFFLINE on $SLURMD_NODENAME >> where"]'
    words = (*ONE, "budgets=[64]", f"dataset={DATASETS[0]}", "shards=2", *SLURM, setup)
    # No node is free before.
    hog = cluster.ask("sbatch", "--parsable", "--array=0-1", "--output=/dev/null", "--wrap=sleep 300").strip()
    until(lambda: all(state == "RUNNING" for state, _ in cluster.jobs().values()), 30, "full nodes")
    with ThreadPoolExecutor(1) as pool:
        # In the background of a shell it may be ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        pool.submit(lambda: (until(lambda: jobs(folder), 60, "jobs"), os.kill(os.getpid(), signal.SIGINT)))
        code, _, err = run(*words)
        signal.signal(signal.SIGINT, before)
    (one, _), (two, _) = jobs(folder)
    assert code == 130
    assert "the jobs go on" in err
    assert cluster.jobs()[one][0] == cluster.jobs()[two][0] == "PENDING"

    sweep = started(*words)
    cluster.ask("scancel", f"{hog}_0")
    until(lambda: answers(folder, DATASETS[0]), 150, "answers of the first shard")
    cluster.ask("scancel", two)
    cluster.ask("scancel", hog)
    code, _, err = sweep.result(150)
    assert code == 1, err
    assert f"job {one} of an earlier command goes on" in err
    assert err.splitlines()[-1] == f"  none, shard=1/2; pausing @64, shard=1/2: job {two} was cancelled"
    code, _, err = run("merge", "runs")
    assert code == 1
    assert err.count("1/2 is not finished") == 2, err

    code, _, err = run(*words)
    assert code == 0, err
    assert len(jobs(folder)) == 3
    assert all(line.startswith("offline=1 on n") for line in (folder / "where").read_text().splitlines())
    assert run("merge", "runs")[0] == 0
    merged = {run: found for run, found in results(folder / "runs").items() if run in expected}
    assert len(merged) == 2
    assert merged.items() <= expected.items()


def test_an_unknown_partition_is_one_sentence(run, cluster, folder):
    said = refused(run, *SIX, *SLURM, "launcher.partition=gpuu")
    assert "no partition gpuu" in said
    assert "one of main, urgent" in said


@pytest.fixture
def reading_node(cluster, folder) -> Iterator[str]:
    """A node that sees the results folder as a file system without write permission."""
    runs = folder / "runs"
    runs.mkdir()
    if subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("this machine allows no mounts of one's own")
    cluster("crash", "n1")
    mounts = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; "$2" boot n1'
    command = ["unshare", "--mount", "bash", "-ec", mounts, "-", str(runs), str(SCRIPT)]
    subprocess.run(command, check=True, env={**os.environ, **cluster.environment})
    yield "n1"
    cluster("crash", "n1")
    cluster("boot", "n1")


def test_a_folder_that_the_nodes_may_not_write_is_one_sentence(run, cluster, folder, reading_node):
    node = f"+launcher.additional_parameters.nodelist={reading_node}"
    code, _, err = run(*ONE, "budgets=[64]", *SLURM, node)
    assert code == 1
    ((job, _),) = jobs(folder)
    assert f"job {job} failed without a word" in err
    assert "may they write there?" in err
