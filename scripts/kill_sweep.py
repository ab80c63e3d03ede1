"""Kills a sweep again and again, resumes it, and compares what it leaves with a sweep that nobody killed.

    python scripts/kill_sweep.py --kills 20 -- methods=[par,prumerge-plus,fastv] budgets=[192,64] limit=200 controls=[]

Sweeps of the same cells, each in a folder of its own: one runs through; one is killed with SIGKILL at random moments, from before
its first folder is made until after its last answer, and started again each time; and two run at the same time in one folder.
Prints, as JSON, how many batches each computed and whether their files are the same bytes, timing aside. The exit code is 1
unless the files are the same and no batch was computed again but one that was in flight when a kill came.

Each start is a process of its own, forked from one that has imported everything, since importing takes most of a start.
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
# RunLockedError, or of use, only while a run goes on.
_LOCKS = (".lock", ".plan.lock")


def start(words: Sequence[str], folder: Path, log: Path) -> int:
    """Run ``parbench sweep`` in a process of its own; every batch that it computes is a line of the log. Gives its id."""
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
    """The exit code of a process that ends within so many seconds, else None."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


class EndedEarlyError(RuntimeError):
    """A sweep came to its end before it was killed as often as it should be."""


def kill_and_resume(words: Sequence[str], folder: Path, log: Path, kills: int, times: tuple[float, float], seed: int) -> list[int]:
    """Start and kill so many times, then let it end; gives the ids of the killed processes.

    Args:
        words: The sweep's.
        folder: Where it runs.
        log: Where it notes batches.
        kills: How often it is killed.
        times: Seconds until the first answer, and from there to the end, of a sweep that nobody kills.
        seed: What the moments are drawn from.

    Raises:
        EndedEarlyError: It ended before it was killed so often.
        RuntimeError: It fails.
    """
    drawn = random.Random(seed)
    before, answering = times
    killed: list[int] = []
    for _ in range(kills):
        pid = start(words, folder, log)
        # A start that is not killed before its first answer answers, on average, less than its share of the sweep.
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
    """Process and batch of each line of a log."""
    return [(pid, json.dumps(batch)) for pid, batch in map(json.loads, log.read_text().splitlines())]


def again(noted: Sequence[tuple[int, str]], killed: Sequence[int]) -> tuple[int, int]:
    """Batches that were computed again: those in flight when their process was killed, and others, of which there must be none."""
    last = dict(noted)
    in_flight = Counter(last[pid] for pid in killed if pid in last)
    times = Counter(batch for _, batch in noted)
    excused = sum(min(count - 1, in_flight[batch]) for batch, count in times.items())
    return excused, sum(times.values()) - len(times) - excused


def contents(folder: Path) -> dict[str, bytes]:
    """All files of all runs, timing aside."""
    return {
        str(path.relative_to(folder)): _TIMES.sub(rb'"\1": 0', path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _LOCKS
    }


def killed_often(words: Sequence[str], folder: Path, kills: int, times: tuple[float, float], seed: int) -> tuple[Path, list[int]]:
    """A folder in which a sweep was killed so many times, and the ids of the killed processes.

    The first sweep of all may have been slower than later ones; where they end too early, kills come earlier, in a new folder.

    Raises:
        EndedEarlyError: It ends before it is killed so often however early kills come.
        RuntimeError: It fails.
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
    """Two sweeps at the same time in one folder.

    Raises:
        RuntimeError: One of them fails.
    """
    codes = [finished(pid, 3600) for pid in [start(words, folder, log), start(words, folder, log)]]
    if any(codes):
        raise RuntimeError(f"two sweeps at the same time ended with {codes}: see {folder / 'output.txt'}")


def compare(words: Sequence[str], folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """All the sweeps, and what became of them."""
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
    """Parse the command line, import everything, compare."""
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
