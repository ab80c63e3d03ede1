"""Sweeps that survive: kills, full disks, other processes, cells that fail."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from faults import contents, disk, entering, killed_at, read_only  # noqa: F401
from helpers import identity_of, refused
from made_runs import metrics_of
from parbench.engine import batch_size as memory
from parbench.engine import engine as engine_module
from parbench.errors import FatalError, ParbenchError, RunLockedError
from parbench.results.store import RunStore
from paths import ROOT
from stored import IDENTITY, line

SMALL = ("methods=[random]", "budgets=[64]", "controls=[]", "limit=20", "engine.batch_size=4", "results_dir=runs")


def work(root: Path) -> None:
    """All that a run writes, as far as it is not there."""
    with contextlib.closing(RunStore(root, IDENTITY, {"any": "thing"})) as store:
        if store.metrics is None:
            store.batch_size(lambda: 2)
            store.settle(questions=6)
            store.begin()
            for number in (0, 2, 4):
                store.append([line(number, kept=["f" * 3000]), line(number + 1)])
            store.finish(metrics_of(list(store.done.values())))


@pytest.mark.external
def test_a_run_killed_at_any_line_of_the_store_ends_with_the_same_bytes(folder):
    work(folder / "whole")
    expected, left = contents(folder / "whole"), set()
    # Every third line: in between, there is seldom more than one that reaches the disk.
    for step in itertools.count(1, 3):
        root = folder / str(step)
        if not killed_at(step, partial(work, root)):
            break
        left.add(
            (
                len(list(root.rglob("metrics.json"))),
                *(path.read_bytes().count(b"\n") for path in root.rglob("samples.jsonl")),
            )
        )
        work(root)
        assert contents(root) == expected, f"killed before line {step}"
    # Without a file of samples, with none, two, four and all six of them, and with metrics: work went on from all of these.
    assert left >= {(0,), (0, 0), (0, 2), (0, 4), (0, 6), (1, 6)}


def test_a_disk_that_is_full_at_any_moment_loses_nothing(folder, disk):  # noqa: F811
    work(folder / "whole")
    expected, said = contents(folder / "whole"), []
    # A file system of no pages is one without limit.
    (disk.folder / "ballast").write_bytes(bytes(4096))
    for pages in range(1, 25):
        shutil.rmtree(disk.folder / "runs", ignore_errors=True)
        disk.resize(f"{4 * pages}k")
        try:
            work(disk.folder / "runs")
        except FatalError as error:
            said.append(str(error))
        disk.resize("1m")
        work(disk.folder / "runs")
        assert contents(disk.folder / "runs") == expected, f"full after {pages - 1} pages"
    assert 5 < len(said) < 24
    assert all("No space left on device" in one for one in said)


def test_a_full_disk_ends_a_sweep_with_a_sentence_and_the_same_command_goes_on(run, folder, disk):  # noqa: F811
    disk.resize("64k")
    words = ("sweep", *SMALL[:-1], "results_dir=disk/runs")
    assert "No space left on device" in refused(run, *words)
    written = [path.read_text().count("\n") for path in (disk.folder / "runs").glob("*/samples.jsonl")]
    assert 0 < sum(written) < 40
    disk.resize("4m")
    code, _, err = run(*words)
    assert code == 0, err
    shutil.move(disk.folder / "runs", folder / "after")
    assert run(*words)[0] == 0
    assert contents(folder / "after") == contents(disk.folder / "runs")


@pytest.mark.external
def test_a_folder_gone_read_only_keeps_what_is_there_of_use(run, folder, monkeypatch):
    original, answered = engine_module.Engine.answer, []
    with contextlib.ExitStack() as stack:

        def answer(self, samples, *read):
            answered.append((self.reducer.name, samples[0].id))
            if len(answered) == 9:
                stack.enter_context(read_only(folder / "runs"))
            return original(self, samples, *read)

        monkeypatch.setattr(engine_module.Engine, "answer", answer)
        assert "Read-only file system" in refused(run, "sweep", *SMALL)
        # One of the two runs is finished, and can be read.
        code, _, err = run("eval", "method=none", *SMALL[3:])
        assert code == 0, err
        assert "nothing recomputed" in err
        assert "Read-only file system" in refused(run, "sweep", *SMALL)
    assert len(answered) == 9
    assert run("sweep", *SMALL)[0] == 0
    # The batch that could not be written was computed twice, no other one.
    twice = {batch for batch, times in Counter(answered).items() if times > 1}
    assert twice == {answered[8]}
    assert len(answered) == len(set(answered)) + 1


@pytest.mark.parametrize("number", [37, 38, 95])
def test_a_file_system_without_locks_is_said(folder, monkeypatch, number):
    def refuse(_file, _how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(FatalError, match=r"has no locks .* results_dir="):
        RunStore(folder, IDENTITY, {})


def test_a_run_that_another_process_computes_is_left_for_later(run, folder):
    assert run("sweep", *SMALL)[0] == 0
    ids = {}
    for path in (folder / "runs").glob("*/provenance.json"):
        ids[identity_of(path.parent)["method"]["name"]] = path.parent.name
    identity = identity_of(folder / "runs" / ids["none"])
    before = contents(folder / "runs")
    shutil.rmtree(folder / "runs")
    held = RunStore(folder / "runs", identity, {})
    with pytest.raises(RunLockedError, match=f"process {os.getpid()}"):
        RunStore(folder / "runs", identity, {}, wait=False)

    def release() -> None:
        while not (folder / "runs" / ids["random"] / "metrics.json").exists():
            time.sleep(0.05)
        (held.folder / "config.yaml").unlink()
        (held.folder / "provenance.json").unlink()
        held.close()

    thread = threading.Thread(target=release)
    thread.start()
    code, _, err = run("sweep", *SMALL)
    thread.join()
    assert code == 0, err
    assert err.index("random @64: done") < err.index("waiting for it") < err.index("none: done")
    assert contents(folder / "runs") == before


def fails(monkeypatch, method: str, error: Exception) -> None:
    """From now on, batches of a method end with an error that is no sample's own."""
    original = engine_module.Engine.answer

    def answer(self, samples, *read):
        if self.reducer.name == method:
            raise error
        return original(self, samples, *read)

    monkeypatch.setattr(engine_module.Engine, "answer", answer)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ParbenchError("this method is out of order: mend it"), "this method is out of order: mend it"),
        (TypeError("a defect"), "TypeError: a defect"),
    ],
)
def test_a_failed_cell_is_reported_and_the_others_go_on(run, folder, monkeypatch, error, said):
    with monkeypatch.context() as patch:
        fails(patch, "random", error)
        code, out, err = run("sweep", *SMALL[:1], "budgets=[64,32]", "controls=[uniform]", *SMALL[3:])
    assert code == 1
    assert "uniform @32" in out
    assert "random" not in out
    listed = err[err.index("parbench: 2 failed") :].splitlines()[1:]
    assert [one.partition(": ")[0] for one in listed] == ["  random @64", "  random @32"]
    assert all(said in one for one in listed)
    failed = [json.loads(path.read_text()) for path in (folder / "runs").glob("*/failed.json")]
    assert len(failed) == 2
    assert said in failed[0]["reason"]
    assert ("Traceback" in failed[0]["details"]) == isinstance(error, TypeError)
    code, out, err = run("sweep", *SMALL[:1], "budgets=[64,32]", "controls=[uniform]", *SMALL[3:])
    assert code == 0, err
    assert "random @32" in out
    assert not list((folder / "runs").glob("*/failed.json"))


def test_a_device_that_fails_ends_the_sweep(run, folder, monkeypatch):
    fails(monkeypatch, "random", FatalError("the device failed: run the same command again to resume"))
    assert "the device failed" in refused(run, "sweep", "methods=[random,uniform]", *SMALL[1:])
    assert len(list((folder / "runs").glob("*/metrics.json"))) == 1


def test_a_model_that_cannot_be_had_leaves_the_others(run, folder):
    code, out, err = run("sweep", "models=[llava-1.5-7b,llava-tiny]", *SMALL)
    assert code == 1
    assert "llava-tiny on scenes" in out
    listed = err[err.index("parbench: 1 failed") :]
    assert "model=llava-1.5-7b: " in listed
    assert "model.path=/path/to/folder" in listed


def test_a_run_is_resumed_with_the_batches_that_it_was_begun_with(run, folder, monkeypatch):
    words = ("eval", "method=none", "limit=30")
    monkeypatch.setattr(memory, "batch_size", lambda adapter: 7)
    assert run(*words, "results_dir=whole")[0] == 0
    original, answered = engine_module.Engine.answer, []

    def answer(self, samples, *read):
        answered.append(len(samples))
        if len(answered) == 3:
            raise KeyboardInterrupt
        return original(self, samples, *read)

    with monkeypatch.context() as patch:
        patch.setattr(engine_module.Engine, "answer", answer)
        code, _, err = run(*words, "results_dir=runs")
        assert code == 130
        assert err.splitlines()[-1] == "parbench: interrupted; the same command goes on where it stopped"
        # Another machine, with more memory.
        patch.setattr(memory, "batch_size", lambda adapter: 29)
        assert run(*words, "results_dir=runs")[0] == 0
    assert max(answered) == 7
    whole, resumed = contents(folder / "whole"), contents(folder / "runs")
    configs = {name for name in whole if name.endswith("config.yaml")}
    assert {name: whole[name] for name in whole.keys() - configs} == {name: resumed[name] for name in resumed.keys() - configs}


def test_what_the_memory_did_not_hold_is_not_tried_again_after_a_kill(run, folder, adapter):
    words = ("eval", "method=none", "limit=30", "engine=exact", "engine.batch_size=8", "results_dir=runs")
    tried = []

    def small(rows, _tokens):
        if rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if any(path.read_bytes().count(b"\n") >= 12 for path in (folder / "runs").glob("*/samples.jsonl")):
            raise KeyboardInterrupt

    with entering(adapter, small):
        assert run(*words)[0] == 130
    (plan,) = (folder / "runs").glob("*/plan.json")
    assert json.loads(plan.read_text()) == {"format": 1, "batch_size": 8, "most": 4, "questions": 30}
    with entering(adapter, lambda rows, _tokens: tried.append(rows)):
        assert run(*words)[0] == 0
    assert max(tried) == 4


@pytest.mark.external
@pytest.mark.usefixtures("interruptible")
def test_a_sweep_that_is_interrupted_says_so_in_one_sentence_and_goes_on(run, folder):
    words = ("methods=[random]", "budgets=[64]", "controls=[]", "limit=40", "engine.batch_size=4")
    command = [sys.executable, "-m", "parbench", "sweep", *words, "results_dir=runs"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list((folder / "runs").glob("*/samples.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted; the same command goes on where it stopped" in err.splitlines()[-1]
    assert out == ""
    for where in ("runs", "whole"):
        assert run("sweep", *words, f"results_dir={where}")[0] == 0
    whole, resumed = contents(folder / "whole"), contents(folder / "runs")
    for name in whole:
        assert name.endswith("config.yaml") or resumed[name] == whole[name]


@pytest.mark.external
def test_an_evaluation_that_is_terminated_says_so_too(folder):
    words = ("method=none", "limit=400", "engine.batch_size=4", "results_dir=runs")
    command = [sys.executable, "-m", "parbench", "eval", *words]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not list((folder / "runs").glob("*/samples.jsonl")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == "parbench: interrupted; the same command goes on where it stopped"


@pytest.mark.external
def test_a_sweep_killed_again_and_again_computes_nothing_twice(folder):
    script = ROOT / "scripts" / "kill_sweep.py"
    words = ("methods=[par,fastv]", "budgets=[192,own]", "controls=[]", "limit=12", "engine.batch_size=2")
    done = subprocess.run(
        [sys.executable, script, "--kills", "2", "--seed", "1", "--folder", folder / "sweeps", "--", *words],
        # Two sweeps at the same time, each with as many threads as cores, get in each other's way.
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 2
    assert found["cells"] == 4
    assert found["files"] == 20
    assert found["files_that_differ"] == []
    assert found["computed_again_otherwise"] == 0
    # Two sweeps at the same time share the cells.
    assert found["computed_twice_at_the_same_time"] == 0
    assert len(found["batches_of_two_at_the_same_time"]) == 2
    assert sum(found["batches_of_two_at_the_same_time"]) == found["batches"]
    assert found["batches_of_the_killed_sweep"] == found["batches"] + found["computed_again_in_flight"]
