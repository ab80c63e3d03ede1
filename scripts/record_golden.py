"""Records golden answers: the kept tokens and answers of every method on 40 questions of scenes, with llava-tiny.

    python scripts/record_golden.py            # after raising NUMERICS in src/parbench/numerics.py
    python scripts/record_golden.py brightest  # a new method, on the questions that are already recorded
    python scripts/record_golden.py --check    # only compare, and print the differences

Questions for which a method keeps other tokens on a processor without AVX-512 are skipped. Their tokens are nearly tied, so that
rounding decides.

tests/test_golden_answers.py recomputes the answers. If they are the same, a change of the code has changed no result, and
`numerics` must not be raised.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parbench.cli import main as parbench
from parbench.results.naming import cell_name, sample_number

FOLDER = Path(__file__).parents[1] / "tests" / "golden" / "answers"
QUESTIONS = 40
# The questions are the first of these on which both kinds of processors agree.
CANDIDATES = 56
# A method that is recorded later may leave out some of them, where processors differ.
FEWEST = 30
BUDGET = 64
# With a smaller margin between the two best tokens, rounding may change the answer.
CERTAIN = 0.01
# Environment variables that limit torch, MKL and oneDNN to AVX2.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
FIELDS = ("prediction", "score", "margin", "kept", "visual", "flops")


def computed(
    questions: int = CANDIDATES, engine: str = "shared", methods: Sequence[str] = ("all",)
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compute golden answers with the current code.

    Args:
        questions: Number of questions, the first of the test split of scenes.
        engine: ``shared`` or ``exact``.
        methods: Names of methods, or ``all``.

    Returns:
        The fields of each question (id) of each method with its budget.

    Raises:
        RuntimeError: The sweep failed. Its output says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = [f"methods=[{','.join(methods)}]", f"budgets=[{BUDGET},own]", "controls=[]", f"limit={questions}", "--yes"]
        if code := parbench(["sweep", *words, f"engine={engine}", f"results_dir={folder}"]):
            raise RuntimeError(f"the sweep ended with exit code {code}")
        return {run.pop("method"): run for run in map(_run, sorted(Path(folder).glob("*/samples.jsonl")))}


def _run(samples: Path) -> dict[str, Any]:
    metrics = json.loads((samples.parent / "metrics.json").read_text())
    lines = map(json.loads, samples.read_text().splitlines())
    name = cell_name(metrics["method"], metrics["budget"])
    return {"method": name, **{line["id"]: golden(line) for line in lines}}


def golden(line: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded fields of a sample. FLOPs are without the method's overhead, which depends on the batch."""
    found = {name: line[name] for name in FIELDS}
    margin = found["margin"]
    flops = line["flops"]["total"] - line["flops"]["reducer"]
    return {**found, "flops": flops, "margin": margin if margin is None else round(margin, 5)}


def recorded(folder: Path = FOLDER) -> dict[str, dict[str, dict[str, Any]]]:
    """The recorded answers; as of :func:`computed`."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        found[path.stem.replace("@", " @")] = {line.pop("id"): line for line in lines}
    return found


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences between two answers to a question. The text only counts if the margin was clear."""
    certain = was["margin"] is None or was["margin"] > CERTAIN
    for name in FIELDS:
        if name == "margin":
            same = was[name] == now[name] or abs((was[name] or 0) - (now[name] or 0)) < CERTAIN
        elif name == "flops":
            # Without a clear margin, the answer may have another length.
            same = not certain or abs(was[name] - now[name]) <= 1e-9 * was[name]
        else:
            same = was[name] == now[name] or (name in ("prediction", "score") and not certain)
        if not same:
            yield f"{name} was {was[name]}, is {now[name]}"


def write(runs: Mapping[str, Mapping[str, Mapping[str, Any]]], folder: Path = FOLDER) -> None:
    """Write one file per method, with one line per question."""
    folder.mkdir(parents=True, exist_ok=True)
    for method, questions in runs.items():
        lines = (json.dumps({"id": name, **line}) + "\n" for name, line in questions.items())
        (folder / f"{method.replace(' ', '')}.jsonl").write_text("".join(lines))


def certain(here: Mapping[str, Mapping[str, Mapping[str, Any]]], there: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The ids of the first ``QUESTIONS`` questions on which two processors agree for every method.

    Raises:
        RuntimeError: There are fewer.
    """
    asked = sorted(next(iter(here.values())), key=sample_number)
    agreed = [name for name in asked if not any(list(differences(run[name], there[method][name])) for method, run in here.items())]
    if len(agreed) < QUESTIONS:
        raise RuntimeError(f"two processors agree on {len(agreed)} of {len(asked)} questions: raise CANDIDATES")
    return agreed[:QUESTIONS]


def add(methods: Sequence[str], folder: Path = FOLDER) -> None:
    """Record further methods on those questions of the recorded ones on which two processors agree.

    Raises:
        RuntimeError: They agree on fewer than ``FEWEST``, or nothing is recorded yet.
    """
    asked = next(iter(recorded(folder).values()), None)
    if asked is None:
        raise RuntimeError("nothing is recorded yet: leave the methods out to record all of them")
    # A sweep refuses a budget that none of its methods can have: one of these can have any.
    named = tuple(dict.fromkeys(["first-n", *methods]))
    here, there = computed(methods=named), _computed_elsewhere(named)
    found = {}
    for name, run in here.items():
        if name.partition(" ")[0] not in methods:
            continue
        agreed = [question for question in asked if not list(differences(run[question], there[name][question]))]
        if len(agreed) < FEWEST:
            raise RuntimeError(f"processors with and without AVX-512 agree with {name} on {len(agreed)} questions only")
        found[name] = {question: run[question] for question in agreed}
    write(found, folder)


def _computed_elsewhere(methods: Sequence[str] = ("all",)) -> dict[str, dict[str, dict[str, Any]]]:
    """Golden answers computed by a process that is limited to AVX2."""
    call = f"golden.computed(methods={list(methods)!r})"
    code = f"import json, record_golden as golden; print('RUNS', json.dumps({call}))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **AVX2},
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    (line,) = (line for line in ended.stdout.splitlines() if line.startswith(b"RUNS "))
    return json.loads(line.removeprefix(b"RUNS "))


def main() -> int:
    """Parse the command line, then record or compare. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; the exit code is 1 if anything differs")
    parser.add_argument("methods", nargs="*", help="new methods to record in addition; by default all are recorded again")
    arguments = parser.parse_args()
    check = arguments.check
    if arguments.methods:
        add(arguments.methods)
        return 0
    now, was = computed(), recorded()
    if not check:
        names = certain(now, _computed_elsewhere())
        for path in FOLDER.glob("*.jsonl"):
            path.unlink()
        write({method: {name: run[name] for name in names} for method, run in now.items()})
    found = [
        f"{method}, {name}: {text}"
        for method, questions in was.items()
        for name, line in questions.items()
        for text in differences(line, now.get(method, {}).get(name, line))
    ]
    print("\n".join(found) or "nothing differs", file=sys.stderr)
    return int(check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
