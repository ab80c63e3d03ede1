"""Handing sweeps in to SLURM: what needs no cluster."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from faults import disk  # noqa: F401
from helpers import refused
from parbench.commands.parsing import given
from parbench.commands.sweep import expand
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.harness.session import Session
from parbench.log import shown
from parbench.sweep.runner import Group
from parbench.sweep.slurm import job
from parbench.sweep.slurm.cluster import JobState, Watch
from parbench.sweep.slurm.job import SweepJob
from parbench.sweep.slurm.runner import SlurmSweep, job_words
from parbench.sweep.slurm.submit import OURS, Submitted, submit
from parbench.sweep.slurm.submitted import Ledger
from parbench.sweep.slurm.wait import Ended, Queue


def settings(*words: str) -> dict:
    return OmegaConf.to_container(compose_config(["launcher=slurm", *words]).launcher, resolve=True)


class Slurm:
    """States of one job, one a second."""

    def __init__(self, *states: str | None) -> None:
        self.states, self.now = list(states), -1

    def ask(self, jobs):
        self.now += 1
        state = self.states[min(self.now, len(self.states) - 1)]
        return None if state is None else dict.fromkeys(jobs, JobState(state))

    def over_after(self, polls: int) -> int | None:
        watch = Watch(["1"], settle_s=3, ask=self.ask, clock=lambda: self.now)
        return next((poll for poll in range(polls) if watch.poll()), None)


@pytest.mark.parametrize(
    ("states", "over"),
    [
        (["RUNNING", "COMPLETED"], 1),
        (["CANCELLED"], 0),
        (["RUNNING", "NODE_FAIL", "NODE_FAIL", "PENDING", "RUNNING", "COMPLETED"], 5),
        (["NODE_FAIL"], 3),
        (["PREEMPTED", "PENDING", "PREEMPTED"], 5),
        # Nothing is concluded while Slurm does not answer; a job that it forgot is over.
        (["RUNNING", None, None, None, None, "GONE"], 8),
        (["RUNNING", "REQUEUED", "COMPLETING", "PENDING"], None),
    ],
)
def test_a_job_is_over_when_nothing_can_bring_it_back(states, over):
    assert Slurm(*states).over_after(12) == over


@pytest.mark.parametrize(("level", "option"), [(logging.DEBUG, ["-v"]), (logging.INFO, []), (logging.WARNING, ["-q"])])
def test_a_job_says_as_much_as_the_command_that_handed_it_in(level, option, monkeypatch):
    started = []
    monkeypatch.setattr(job, "_stop_whole", lambda: None)
    monkeypatch.setattr(job.runpy, "run_module", lambda *_, **__: started.append(sys.argv))
    monkeypatch.setattr(sys, "argv", sys.argv)
    with shown(level):
        (one,) = SlurmSweep([Group(compose_config([]))], [["limit=1"]], {})._job_of.values()
    one()
    assert started == [["parbench", "sweep", *option, "limit=1"]]
    assert one == SweepJob(("limit=1",))


def test_a_cut_line_of_the_ledger_is_no_job(folder):
    ledger, first, second = Ledger(folder / "jobs"), SweepJob(("limit=1",)), SweepJob(("limit=2",))
    ledger.add([first, second], [Submitted("7_0", folder / "a"), Submitted("7_1", folder / "b")])
    ledger.add([first], [Submitted("9", folder / "c")])
    with (folder / "jobs" / "jobs.jsonl").open("a") as file:
        file.write('{"job": "10", "words": ["lim')
    known = {first: Submitted("9", folder / "c"), second: Submitted("7_1", folder / "b")}
    assert ledger.last() == known
    third = SweepJob(("limit=3",))
    ledger.add([third], [Submitted("11", folder / "d")])
    assert ledger.last() == {**known, third: Submitted("11", folder / "d")}


def test_jobs_that_cannot_be_written_down_are_cancelled(sbatch, folder, disk):  # noqa: F811
    sbatch(f"touch {disk.folder}/more; head -c 2000000 /dev/zero >{disk.folder}/more; echo Submitted batch job 12")
    (folder / "scancel").write_text(f'#!/bin/sh\necho "$@" >{folder}/cancelled\n')
    (folder / "scancel").chmod(0o755)
    jobs = [SweepJob(("limit=1", "x" * 5000)), SweepJob(("limit=2",))]
    queue = Queue(disk.folder / "jobs", settings())
    with pytest.raises(ParbenchError, match=r"cannot be written \(No space left"):
        queue.hand_in(jobs)
    assert (folder / "cancelled").read_text().split() == ["12_0", "12_1"]


def test_what_a_job_said_last_is_what_went_wrong_with_it(folder):
    log = folder / "log"
    log.write_text("parbench: an old fault\nprogress\nparbench: the disk is full\nsrun: error: task 0: exited\n")
    ended = Ended(Submitted("7_1", log), JobState("FAILED"))
    assert ended.trouble(settings()).endswith(f"job 7_1 failed ({log}): the disk is full")
    assert "do the nodes see that folder" in Ended(Submitted("7", folder / "no"), JobState("FAILED")).trouble(settings())
    assert Ended(Submitted("7", log), JobState("COMPLETED")).trouble(settings()) == ""
    log.write_text("srun: error: task 0: exited\n")
    assert Ended(Submitted("7", log), JobState("FAILED")).trouble(settings()).endswith("log: nothing is in it")
    assert Ended(Submitted("7", log), JobState("NODE_FAIL", node="n2")).trouble(settings()) == "job 7 lost its node n2"


def test_settings_are_those_of_hydras_launcher():
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    fields = set(OmegaConf.structured(config.SlurmQueueConf))
    # Jobs of one task on one node; where their files are and what they are called is not a matter of taste.
    fixed = {"_target_", "nodes", "tasks_per_node", "submitit_folder", "name", "stderr_to_stdout"}
    assert set(settings()) - set(OURS) == fields - fixed


SBATCH = """#!/bin/sh
cp "$1" {folder}/seen.sh
{answer}
"""


@pytest.fixture
def sbatch(folder, monkeypatch):
    """Stands for Slurm's program: it keeps the script and answers."""
    pytest.importorskip("submitit")

    def answers(answer: str) -> Path:
        for name, text in (("sbatch", SBATCH.format(folder=folder, answer=answer)), ("srun", "#!/bin/sh\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        return folder / "seen.sh"

    return answers


def test_settings_reach_sbatch(sbatch, folder):
    script = sbatch("echo Submitted batch job 12")
    words = (
        "launcher.partition=gpu",
        "launcher.account=lab",
        "launcher.gpus_per_node=2",
        "launcher.cpus_per_task=8",
        "launcher.mem_gb=32",
        "launcher.timeout_min=90",
        "launcher.constraint=a100",
        "launcher.array_parallelism=3",
        "launcher.signal_delay_s=45",
        "launcher.setup=['module load cuda']",
        "+launcher.additional_parameters.reservation=lab",
    )
    jobs = [SweepJob((f"limit={number}",)) for number in range(5)]
    handed = submit(jobs, settings(*words), folder / "jobs")
    assert [one.job for one in handed] == [f"12_{number}" for number in range(5)]
    lines = script.read_text().splitlines()
    for option in (
        "partition=gpu",
        "account=lab",
        "gpus-per-node=2",
        "cpus-per-task=8",
        "mem=32GB",
        "time=90",
        "constraint=a100",
        "array=0-4%3",
        "signal=USR2@45",
        "requeue",
        "reservation=lab",
        "job-name=parbench",
    ):
        assert f"#SBATCH --{option}" in lines
    assert "module load cuda" in lines
    assert sum("SRUN_CPUS_PER_TASK" in line for line in lines) == 1


def test_what_slurm_refuses_is_said(sbatch, folder):
    sbatch("echo 'sbatch: error: Batch job submission failed: Invalid account or account/partition' >&2; exit 1")
    with pytest.raises(ParbenchError, match=r"Slurm refuses the jobs: .*Invalid account"):
        submit([SweepJob(("limit=1",))], settings("launcher.account=nobody"), folder / "jobs")


def test_a_setting_of_the_wrong_kind_is_said(sbatch, folder):
    sbatch("exit 1")
    with pytest.raises(ParbenchError, match=r"launcher\.mem_gb.*much"):
        submit([SweepJob(("limit=1",))], settings("launcher.mem_gb=much"), folder / "jobs")


@pytest.mark.parametrize("value", ["0", "soon", "true", "null"])
def test_a_wait_of_no_time_is_said(run, value):
    assert "not a number of seconds above 0" in refused(run, "sweep", "launcher=slurm", f"launcher.poll_s={value}")


def test_an_unknown_setting_is_said(run):
    assert "did you mean partition" in refused(run, "sweep", "launcher=slurm", "launcher.partitoin=gpu")


SIGNALLED = """
import os, signal, sys
from pathlib import Path
os.environ |= {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_FOLDER": sys.argv[1], "SLURM_JOB_ID": "7"}
import submitit
from submitit.core.utils import DelayedSubmission
from parbench.sweep.slurm import job

environment = submitit.JobEnvironment()
environment.paths.folder.mkdir(parents=True)
delayed = DelayedSubmission(job.SweepJob(("limit=1",)))
delayed.set_timeout(1, 0)
environment._handle_signals(environment.paths, delayed)
job._stop_whole()
try:
    os.kill(os.getpid(), signal.SIGUSR2)
    while True:
        pass
except RuntimeError:
    print("taken for a fault of a sample")
"""


def test_a_job_that_may_not_go_on_stops_whatever_it_does(folder):
    """submitit raises a RuntimeError out of the handler, which an engine takes for a failure of its sample."""
    pytest.importorskip("submitit")
    done = subprocess.run([sys.executable, "-c", SIGNALLED, str(folder / "%j")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert "parbench: Job not requeued because: timed-out too many times: raise launcher.timeout_min" in done.stderr
    assert done.stdout.count("taken for") == 0


def test_without_slurm_it_is_one_sentence(run, monkeypatch, folder):
    monkeypatch.setenv("PATH", str(folder))
    said = refused(run, "sweep", "methods=[random]", "budgets=[64]", "limit=2", "launcher=slurm", "results_dir=runs")
    assert "no sbatch" in said
    assert not (folder / "runs").exists()


def test_words_of_a_job_survive_the_ledger(folder):
    ledger = Ledger(folder / "jobs")
    ledger.add([SweepJob(("dataset.path=/data/a b", "methods=[par]"))], [Submitted("1", folder / "log")])
    (line,) = (folder / "jobs" / "jobs.jsonl").read_text().splitlines()
    assert json.loads(line)["words"] == ["dataset.path=/data/a b", "methods=[par]"]


@pytest.mark.parametrize(
    ("device", "words", "asked"),
    [
        ("auto", (), ["model.device=cpu"]),
        ("auto", ("launcher.gpus_per_node=1",), ["model.device=cuda"]),
        ("auto", ("launcher.gres=gpu:a100:1",), ["model.device=cuda"]),
        ("auto", ("+launcher.additional_parameters.gpus=2",), ["model.device=cuda"]),
        ("cuda:1", ("launcher.gpus_per_node=2",), []),
    ],
)
def test_a_job_computes_on_what_it_asks_for(device, words, asked):
    given = ["methods=[par]", "launcher=slurm", *words, "limit=4"]
    assert job_words(given, device, settings(*words)) == ["methods=[par]", "limit=4", *asked]


def test_a_login_node_knows_runs_of_a_gpu_that_it_has_not():
    words = ["experiment=par_ablation", "model.device=cuda"]
    session = Session(compose_config(words), elsewhere=True)
    assert session.identity(session.reducer(compose_config(["method=random"]).method))["device"] == "cuda"
    # Where an experiment's thresholds are read.
    assert session.thresholds.data.settings["split"] == "val"


def test_an_evaluation_is_no_sweep(run):
    assert "write parbench sweep" in refused(run, "eval", "method=none", "limit=2", "launcher=slurm")


def test_a_clusters_settings_are_a_file_of_ones_own(folder, monkeypatch):
    (folder / "launcher").mkdir()
    (folder / "launcher" / "lab.yaml").write_text("defaults: [slurm, _self_]\npartition: gpu\nmem_gb: 40\n")
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(folder))
    found = compose_config(["launcher=lab", "launcher.mem_gb=20"]).launcher
    assert (found.name, found.partition, found.mem_gb, found.max_num_timeout) == ("slurm", "gpu", 20, 20)


def test_a_file_that_is_half_of_a_clusters_settings_is_said(run, folder, monkeypatch):
    (folder / "launcher").mkdir()
    (folder / "launcher" / "lab.yaml").write_text("name: slurm\npartition: gpu\n")
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(folder))
    assert "begin its file with 'defaults: [slurm, _self_]'" in refused(run, "sweep", "launcher=lab")
    (folder / "launcher" / "lab.yaml").write_text("partition: gpu\n")
    assert "unknown launcher.name 'None': known are local, slurm" in refused(run, "sweep", "launcher=lab")


def test_a_full_disk_is_why_a_log_is_empty(disk):  # noqa: F811
    log = disk.folder / "log"
    log.touch()
    with pytest.raises(OSError, match="No space left"):
        (disk.folder / "more").write_bytes(bytes(1 << 21))
    ended = Ended(Submitted("7", log), JobState("FAILED"))
    assert ended.trouble(settings()).endswith("no space is left on its disk")


@pytest.mark.parametrize("word", ["launcher.setup=module load cuda", "launcher.additional_parameters=gpu"])
def test_a_word_where_a_list_or_a_mapping_is_due_is_said(run, word):
    assert "is of the wrong kind" in refused(run, "sweep", "launcher=slurm", word)


@pytest.mark.parametrize("word", ["launcher.partition=gpu,long", "launcher.exclude=n1,n2"])
def test_several_values_of_a_launcher_are_no_several_sweeps(run, word):
    assert "quote a list for Slurm" in refused(run, "sweep", "launcher=slurm", word)


def test_a_list_of_slurms_in_quotes_is_one_value():
    (words,) = expand(given("sweep", ["launcher=slurm", "launcher.exclude='n1,n2'"]))
    assert compose_config(words).launcher.exclude == "n1,n2"


def test_a_list_of_what_failed_is_read_whole(folder):
    log = folder / "1_log.err"
    log.write_text("parbench: 2 failed; the same command tries again:\n  par @64: no\n  fastv @64: neither\nsrun: error\n")
    ended = Ended(Submitted("1", log), JobState("FAILED"))
    assert ended.trouble(settings()).endswith("tries again: par @64: no fastv @64: neither")


def test_a_damaged_ledger_is_said(folder):
    ledger = Ledger(folder / "jobs")
    (folder / "jobs" / "jobs.jsonl").write_text("{}\n")
    with pytest.raises(ParbenchError, match="damaged: delete it"):
        ledger.last()


def test_a_sweep_that_begins_with_another_method_than_the_first_says_why(run, folder):
    words = ("controls=[]", "budgets=[64]", "limit=2")
    _, _, err = run("sweep", "methods=[random,cls-topk]", *words)
    assert "begins with cls-topk @64: the image features that are kept for it serve the other methods too" in err
    _, _, err = run("sweep", "methods=[random]", *words, "results_dir=others")
    assert "begins with" not in err
