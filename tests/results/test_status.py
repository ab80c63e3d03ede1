"""``parbench status``: what became of runs, from their folders alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from helpers import refused
from made_runs import metrics_of
from parbench.errors import ParbenchError
from parbench.progress import duration
from parbench.results.status import RunState, overview, summary
from parbench.results.store import RunStore
from stored import line


def identity(method: str, **more) -> dict:
    return {
        "model": "m",
        "method": {"name": method, "budget": 64},
        "dataset": {"name": "d"},
        "limit": None,
        "shard": None,
        **more,
    }


@pytest.fixture
def runs(folder):
    """One run in every state; the running one has answered 40 of 100 questions, 30 of them in the last minute."""
    stores = {name: RunStore(folder / "runs", identity(name), {}) for name in ("a", "b", "c", "d", "e")}
    for store in stores.values():
        store.settle(questions=100)
    for name in ("a", "b", "c"):
        stores[name].append([line(number) for number in range(10)])
    stores["a"].finish(metrics_of([line(number) for number in range(10)]))
    stores["b"].fail(ParbenchError("out of order: mend it"))
    stores["d"].append([line(number) for number in range(10)])
    stores["d"].begin()
    stores["d"].append([line(number) for number in range(10, 40)])
    stores["d"].sign(time.time() - 60, 10)
    for name in ("a", "b", "c", "e"):
        stores[name].close()
    yield folder / "runs"
    stores["d"].close()


def test_every_state_is_told_apart(runs):
    found = {run.method: run for run in overview(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "a": "done",
        "b": "failed",
        "c": "stopped",
        "d": "running",
        "e": "waiting",
    }
    assert [found[name].done for name in "bcde"] == [10, 10, 40, 0]
    assert {run.total for run in found.values()} == {100}
    assert found["b"].reason == "out of order: mend it"
    assert found["d"].holder == f"process {os.getpid()} on {socket.gethostname()}"
    assert found["d"].rate == pytest.approx(0.5, rel=0.1)
    assert found["d"].seconds_left == pytest.approx(120, rel=0.1)


def test_the_time_left_is_that_of_all_that_will_be_computed(runs):
    # 60 of the running one and 100 of the waiting one; nobody will go on with the stopped one.
    assert summary(overview(runs)) == "5 runs: 1 running, 1 waiting, 1 stopped, 1 failed, 1 done; about 5 min 20 s left"


def test_a_holder_that_dies_runs_no_more(runs):
    script = (
        "import sys, time; from pathlib import Path; from parbench.results.store import RunStore\n"
        f"store = RunStore(Path({str(runs)!r}), {identity('f')!r}, {{}}); print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    (run,) = [one for one in overview(runs) if one.method == "f"]
    assert (run.state, run.holder) == ("running", f"process {process.pid} on {socket.gethostname()}")
    process.kill()
    process.communicate()
    (run,) = [one for one in overview(runs) if one.method == "f"]
    assert (run.state, run.holder) == ("waiting", None)


def test_folders_that_are_no_runs_are_passed_over(runs):
    (runs / "notes").mkdir()
    (runs / "other").mkdir()
    (runs / "other" / "provenance.json").write_text("{}")
    assert len(overview(runs)) == 5


def test_damaged_runs_are_said(run, runs):
    (runs / "cut").mkdir()
    (runs / "cut" / "provenance.json").write_text('{"model": ')
    (done,) = [one for one in overview(runs) if one.state == "done"]
    for content in ("{", "[]", "{}"):
        (runs / done.run_id / "metrics.json").write_text(content)
        states = {one.run_id: one for one in overview(runs)}
        assert (states["cut"].state, states[done.run_id].state) == ("damaged", "damaged")
        assert "metrics.json" in states[done.run_id].reason
    code, out, _ = run("status", str(runs))
    assert code == 0
    assert "2 damaged" in out
    assert "run again" in out


def test_samples_that_are_missing_are_said(runs):
    (done,) = [one for one in overview(runs) if one.state == "done"]
    samples = runs / done.run_id / "samples.jsonl"
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-1]))
    (now,) = [one for one in overview(runs) if one.run_id == done.run_id]
    assert (now.state, now.done) == ("damaged", done.done - 1)


def test_several_folders_are_one_list(run, runs, folder):
    other = folder / "other"
    RunStore(other, identity("z"), {}).close()
    _, both, _ = run("status", str(runs), str(other), "--json")
    _, same, _ = run("status", str(runs), f"results_dir={other}", "--json")
    listed = [[one["run_id"] for one in json.loads(out)] for out in (both, same)]
    assert listed[0] == listed[1]
    assert len(listed[0]) == 6


def test_shards_are_told_apart(folder):
    for part in ("0/2", "1/2"):
        RunStore(folder, identity("a", shard=part), {}).close()
    assert [run.shard for run in overview(folder)] == ["0/2", "1/2"]


def test_the_table_says_who_what_and_why(run, runs):
    code, out, _ = run("status", f"results_dir={runs}")
    assert code == 0
    rows = {row.split()[3]: row for row in out.splitlines() if "@64" in row and "│" in row}
    assert "40/100" in rows["d"]
    assert f"running: process {os.getpid()}" in rows["d"]
    assert "2 min" in rows["d"]
    assert "0/100" in rows["e"]
    assert "failed: out of order: mend it" in out


def test_scripts_get_fixed_keys(run, runs):
    code, out, _ = run("status", f"results_dir={runs}", "--json")
    assert code == 0
    found = json.loads(out)
    assert set(found[0]) == {
        "run_id",
        "model",
        "dataset",
        "method",
        "budget",
        "limit",
        "shard",
        "done",
        "total",
        "state",
        "holder",
        "rate",
        "reason",
        "per_image",
        "seconds_left",
    }
    assert [one["state"] for one in found] == ["done", "failed", "stopped", "running", "waiting"]


def test_a_sweep_shows_what_is_to_come(run, folder, monkeypatch):
    from parbench.engine.engine import Engine

    seen = []

    def answer(self, samples, *read):
        seen.append({one.method: one for one in overview(folder / "runs")})
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "answer", answer)
    words = ("methods=[random]", "budgets=[64]", "controls=[uniform]", "limit=20", "results_dir=runs")
    assert run("sweep", *words)[0] == 130
    (states,) = seen
    assert {name: one.state for name, one in states.items()} == {
        "none": "running",
        "random": "waiting",
        "uniform": "waiting",
    }
    assert [one.total for one in states.values()] == [20, 20, 20]


def test_status_needs_no_torch(folder):
    script = "import sys; from parbench.cli import main; main(['status', 'results_dir=.']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    assert done.stdout.splitlines() == ["0 runs", "False"]


def test_quotes_around_a_value_are_hydras(run, folder):
    (folder / "my runs").mkdir()
    for quote in "'\"":
        assert run("status", f"results_dir={quote}my runs{quote}")[:2] == (0, "0 runs\n")


def test_what_status_does_not_know_is_refused(run, folder):
    assert "not a folder" in refused(run, "status", "results_dir=nowhere")
    assert "runs is not a folder" in refused(run, "status", "runs")


@pytest.mark.parametrize(("seconds", "said"), [(7, "7 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (7260, "2 h 01 min")])
def test_durations_are_for_people(seconds, said):
    assert duration(seconds) == said


def test_without_a_rate_no_time_is_promised():
    state = RunState("0", "m", "d", "a", None, None, None, 5, None, "running")
    assert state.seconds_left is None
    assert summary([state]) == "1 run: 1 running"
