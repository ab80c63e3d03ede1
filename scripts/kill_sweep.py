"""Kills and resumes a sweep repeatedly, and compares its results with those of an undisturbed sweep.

    python scripts/kill_sweep.py --kills 20 -- methods=[par,prumerge-plus,fastv] budgets=[192,64] limit=200 controls=[]

The same sweep runs three times. The first is undisturbed. The second is killed with SIGKILL at random times and started again
after each kill; the times range from before the first run folder exists until after the last answer. The third consists of two
sweeps at the same time in one folder.

Prints as JSON how many batches each computed, and whether their files are identical apart from timing. The exit code is 0 if the
files are identical and no batch was computed twice, except those in progress at a kill; otherwise it is 1.

Each start is a process forked from one that has imported everything, since imports take most of the start-up time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parbench.results.record import TIMING_FIELDS

_TIMES = re.compile(rb'"(%s)": [^,}\n]+' % "|".join(TIMING_FIELDS).encode())
_IMPORTED = (
    "transformers",
    "lmms_eval.evaluator",
    "parbench.commands.sweep",
    "parbench.harness.lmms_model",
    "parbench.models.adapter",
)
# Lock files, which matter only while a run is in progress.
_LOCKS = (".lock", ".plan.lock")


def start(words: Sequence[str], folder: Path, log: Path) -> int:
    """Run ``parbench sweep`` in a forked process. It appends a line to the log for every batch. Returns the process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        output = os.open(folder / "output.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(folder)
        _note_batches(log)
        from parbench.cli import main

        code = main(["sweep", *words, "results_dir=runs"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _note_batches(log: Path) -> None:
    from parbench.engine.engine import Engine

    answer = Engine.answer
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def noted(self: Engine, samples: Sequence[Any], *read: Any) -> Any:
        batch = [self.reducer.name, self.reducer.budget, [sample.id for sample in samples]]
        os.write(descriptor, (json.dumps([os.getpid(), batch]) + "\n").encode())
        return answer(self, samples, *read)

    Engine.answer = noted  # type: ignore[method-assign]


def finished(pid: int, seconds: float) -> int | None:
    """The exit code of a process; None if it does not end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


class EndedEarlyError(RuntimeError):
    """A sweep ended before it was killed often enough."""


def kill_and_resume(words: Sequence[str], folder: Path, log: Path, kills: int, times: tuple[float, float], seed: int) -> list[int]:
    """Start and kill a sweep repeatedly, then let it end.

    Args:
        words: Arguments of ``parbench sweep``.
        folder: Working directory.
        log: The log of batches.
        kills: Number of kills.
        times: Seconds of an undisturbed sweep until the first answer, and from there to the end.
        seed: Seed of the random times of kills.

    Returns:
        The ids of the killed processes.

    Raises:
        EndedEarlyError: The sweep ended before it was killed often enough.
        RuntimeError: The sweep failed.
    """
    drawn = random.Random(seed)
    before, answering = times
    killed: list[int] = []
    for _ in range(kills):
        pid = start(words, folder, log)
        # On average, each start answers less than its share of the sweep, so that the sweep does not end early.
        code = finished(pid, drawn.uniform(0, before + 1.5 * answering / kills))
        if code:
            raise RuntimeError(f"the sweep ended with {code}: see {folder / 'output.txt'}")
        if code == 0:
            raise EndedEarlyError(f"the sweep ended after {len(killed)} of {kills} kills: give it more questions")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed.append(pid)
    if code := finished(start(words, folder, log), 3600):
        raise RuntimeError(f"the resumed sweep ended with {code}: see {folder / 'output.txt'}")
    return killed


def batches(log: Path) -> list[tuple[int, str]]:
    """The process id and the batch of each line of a log."""
    return [(pid, json.dumps(batch)) for pid, batch in map(json.loads, log.read_text().splitlines())]


def again(noted: Sequence[tuple[int, str]], killed: Sequence[int]) -> tuple[int, int]:
    """The numbers of batches computed again: those in progress at a kill, and others. There should be no others."""
    last = dict(noted)
    in_flight = Counter(last[pid] for pid in killed if pid in last)
    times = Counter(batch for _, batch in noted)
    excused = sum(min(count - 1, in_flight[batch]) for batch, count in times.items())
    return excused, sum(times.values()) - len(times) - excused


def contents(folder: Path) -> dict[str, bytes]:
    """The contents of all files of all runs, with timing set to 0."""
    return {
        str(path.relative_to(folder)): _TIMES.sub(rb'"\1": 0', path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _LOCKS
    }


def killed_often(words: Sequence[str], folder: Path, kills: int, times: tuple[float, float], seed: int) -> tuple[Path, list[int]]:
    """Kill and resume a sweep, in a folder that is returned with the ids of the killed processes.

    The undisturbed sweep, from which ``times`` are, may have been slower than later ones. If a sweep ends too early, another is
    started in a new folder with earlier kills.

    Raises:
        EndedEarlyError: Every sweep ended before it was killed often enough.
        RuntimeError: A sweep failed.
    """
    for earlier in range(4):
        resumed = folder / f"resumed-{earlier}"
        resumed.mkdir()
        before, answering = (seconds * 0.6**earlier for seconds in times)
        try:
            return resumed, kill_and_resume(words, resumed, resumed / "log", kills, (before, answering), seed)
        except EndedEarlyError as error:
            last = error
    raise last


def side_by_side(words: Sequence[str], folder: Path, log: Path) -> None:
    """Run two sweeps at the same time in one folder.

    Raises:
        RuntimeError: One of them failed.
    """
    codes = [finished(pid, 3600) for pid in [start(words, folder, log), start(words, folder, log)]]
    if any(codes):
        raise RuntimeError(f"two sweeps at the same time ended with {codes}: see {folder / 'output.txt'}")


def compare(words: Sequence[str], folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Run all sweeps and compare their batches and files.

    Returns:
        The figures that the script prints.

    Raises:
        RuntimeError: A sweep failed.
    """
    whole, beside = folder / "whole", folder / "beside"
    for path in (whole, beside):
        path.mkdir()
    begun = time.monotonic()
    pid = start(words, whole, whole / "log")
    while not (whole / "log").exists() or not (whole / "log").stat().st_size:
        if (code := finished(pid, 0.01)) is not None:
            raise RuntimeError(f"the sweep ended with {code} before its first answer: see {whole / 'output.txt'}")
    before = time.monotonic() - begun
    if code := finished(pid, 3600):
        raise RuntimeError(f"the sweep ended with {code}: see {whole / 'output.txt'}")
    times = before, time.monotonic() - begun - before
    resumed, killed = killed_often(words, folder, kills, times, seed)
    side_by_side(words, beside, beside / "log")
    noted, (excused, others) = batches(resumed / "log"), again(batches(resumed / "log"), killed)
    together = batches(beside / "log")
    expected = contents(whole / "runs")
    differing = [
        str(path.relative_to(folder) / name)
        for path in (resumed / "runs", beside / "runs")
        for found in [contents(path)]
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    return {
        "cells": len(list((whole / "runs").glob("*/metrics.json"))),
        "seconds_until_first_answer": round(times[0], 1),
        "seconds_of_answering": round(times[1], 1),
        "kills": len(killed),
        "kills_before_a_first_answer": sum(pid not in dict(noted) for pid in killed),
        "batches": len(batches(whole / "log")),
        "batches_of_the_killed_sweep": len(noted),
        "computed_again_in_flight": excused,
        "computed_again_otherwise": others,
        "batches_of_two_at_the_same_time": sorted(Counter(pid for pid, _ in together).values()),
        "computed_twice_at_the_same_time": len(together) - len({batch for _, batch in together}),
        "same_batches": len({frozenset(batch for _, batch in one) for one in (noted, together, batches(whole / "log"))}) == 1,
        "files": len(expected),
        "files_that_differ": differing,
    }


def main() -> int:
    """Parse the command line, import everything, and compare the sweeps. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where the runs stay; a temporary folder if not given")
    parser.add_argument("words", nargs="+", help="of parbench sweep, after --")
    arguments = parser.parse_args()
    for module in _IMPORTED:
        importlib.import_module(module)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(arguments.words, folder.resolve(), arguments.kills, arguments.seed)
    print(json.dumps(found, indent=2))
    wrong = ("files_that_differ", "computed_again_otherwise", "computed_twice_at_the_same_time")
    return 1 if any(found[key] for key in wrong) or not found["same_batches"] else 0


if __name__ == "__main__":
    sys.exit(main())
