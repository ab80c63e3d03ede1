"""Sweeps over several devices of one machine: the same bytes as in one process, whatever ends what."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from faults import contents
from helpers import refused
from parbench.cli import main
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.models.assets import asset
from parbench.sweep.devices.names import asked_devices
from parbench.sweep.devices.pool import Pool

WORDS = (
    "sweep",
    "methods=[uniform]",
    "budgets=[64]",
    "controls=[random]",
    "limit=12",
    "engine.batch_size=2",
    "shards=2",
    "results_dir=runs",
)
TWO = "launcher.devices=[cpu:0,cpu:1]"


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> dict[str, bytes]:
    """What a sweep in one process leaves."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("single"))
    try:
        assert main(list(WORDS)) == 0
        return contents(Path("runs"))
    finally:
        os.chdir(before)


def until(happened, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def computing(sweep: int) -> list[psutil.Process]:
    children = psutil.Process(sweep).children(recursive=True)
    return [child for child in children if "parbench.sweep.devices.worker" in child.cmdline()]


def answered(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "runs").glob("*/samples.jsonl"))


def with_two(run, happened, act) -> tuple[int, str]:
    """Exit code and errors of the sweep on two devices; when something has happened, something is done about it."""

    def wait() -> None:
        until(happened)
        act()

    waiting = threading.Thread(target=wait)
    waiting.start()
    code, _, err = run(*WORDS, TWO)
    waiting.join()
    return code, err


@pytest.mark.external
@pytest.mark.usefixtures("interruptible")
def test_whatever_ends_it_no_process_is_left_and_the_same_command_ends_with_the_same_bytes(run, folder, single):
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    sweep = subprocess.Popen(
        [sys.executable, "-m", "parbench", *WORDS, TWO],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: answered(folder) >= 4)
    children = computing(sweep.pid)
    assert len(children) == 2
    sweep.kill()
    sweep.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]
    before = answered(folder)
    assert before < 12 * 3

    me = os.getpid()
    code, err = with_two(run, lambda: len(computing(me)) == 2, lambda: os.kill(me, signal.SIGINT))
    assert code == 130
    assert "interrupted; the same command goes on" in err
    assert not computing(me)

    code, err = with_two(run, lambda: answered(folder) >= before + 4, lambda: computing(me)[0].kill())
    assert code == 1, err
    assert "was killed (SIGKILL)" in err
    assert "1 failed; the same command tries again:" in err
    (failed,) = (folder / "runs").glob("*/failed.json")
    assert "was killed" in failed.read_text()

    code, out, err = run(*WORDS, TWO)
    assert code == 0, err
    assert contents(folder / "runs") == single
    assert not computing(me)
    # Two shards are two tables.
    assert out.count("tokens and costs") == 2
    assert err.count("finished before, nothing recomputed") == 5


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_between_two_starts_leaves_no_process(monkeypatch):
    started, start = [], subprocess.Popen

    def interrupted(*words, **options):
        started.append(start(*words, **options))
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt), Pool(threads=1) as pool:
        pool.start([(0, "cpu"), (1, "cpu")])
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_a_model_that_no_device_can_load_is_one_sentence(run, folder):
    shutil.copytree(asset("llava-tiny"), folder / "model")
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = refused(
        run, "sweep", "methods=[random]", "budgets=[64]", "controls=[]", "limit=12", TWO, f"model.path={folder / 'model'}"
    )
    assert "is incomplete" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launcher.devices=[]"], "is not a list of devices"),
        (["launcher.devices=0"], "is not a list of devices: write launcher.devices=[0,1]"),
        (["launcher.devices=[gpu]"], "launcher.devices names gpu: model.device=gpu is not a device"),
        (["launcher.devices=[true]"], "which is not a device"),
        (["launcher.devices=[-1]"], "is not a device"),
        (["launcher.devices=[cpu,cpu]", "model.device=cpu"], "leave out model.device=cpu"),
        (["launcher.devices=[cpu,cpu]", "model.device_map=auto"], "leave out model.device_map=auto"),
    ],
)
def test_a_list_of_devices_that_is_none_is_said_before_anything(run, folder, words, said):
    for command in (("sweep", "methods=[random]"), ("eval", "method=random"), ("eval", "-m", "method=random")):
        assert said in refused(run, *command, "limit=4", "results_dir=runs", *words)
    assert not (folder / "runs").exists()


def test_cards_are_counted(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def devices(value: str) -> list[str] | None:
        return asked_devices(compose_config([f"launcher.devices={value}"]))

    assert devices("[0,1]") == devices("[cuda:0,cuda:1]") == devices("['0','1']") == ["cuda:0", "cuda:1"]
    assert devices("[cpu,cpu:3]") == ["cpu", "cpu"]
    assert devices("null") is None
    for value, said in (
        ("[0,2]", "the CUDA devices of this machine are cuda:0 to cuda:1"),
        ("[0,cuda]", "names cuda:0 twice"),
        ("[0,cpu]", "mixes cards and CPU"),
    ):
        with pytest.raises(ParbenchError, match=said):
            devices(value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParbenchError, match=r"names 0: model\.device=cuda:0, but this machine or this build of torch has no CUDA"):
        devices("[0]")
