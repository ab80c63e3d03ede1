"""Records golden answers: what every method keeps and answers on 40 questions of scenes, with llava-tiny.

Questions on which a processor without AVX-512 keeps other tokens are skipped: two tokens there are as good as the same.

    python scripts/record_golden.py            # after raising NUMERICS in src/parbench/numerics.py
    python scripts/record_golden.py brightest  # a new method, on the questions that are recorded already
    python scripts/record_golden.py --check    # compare only, and say what differs

tests/test_golden_answers.py recomputes them. As long as they are the same, an edit has changed no number and `numerics` stays.
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
# Of which those are taken that every processor agrees on.
CANDIDATES = 48
BUDGET = 64
# A smaller lead of a token over the second best may be rounding.
CERTAIN = 0.01
# Of torch, of MKL and of oneDNN.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
FIELDS = ("prediction", "score", "margin", "kept", "visual", "flops")


def computed(
    questions: int = CANDIDATES, engine: str = "shared", methods: Sequence[str] = ("all",)
) -> dict[str, dict[str, dict[str, Any]]]:
    """By method and budget, by question: what parbench computes now.

    Args:
        questions: The first of scenes' test split.
        engine: ``shared`` or ``exact``.
        methods: Their names, or ``all``.

    Raises:
        RuntimeError: The sweep failed; it has said why.
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
    """What is kept of a sample: its fields in ``FIELDS``, of the FLOPs all but the method's own, which hang on the batch."""
    found = {name: line[name] for name in FIELDS}
    margin = found["margin"]
    flops = line["flops"]["total"] - line["flops"]["reducer"]
    return {**found, "flops": flops, "margin": margin if margin is None else round(margin, 5)}


def recorded(folder: Path = FOLDER) -> dict[str, dict[str, dict[str, Any]]]:
    """By method and budget, by question: what was recorded."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        lines = map(json.loads, path.read_text().splitlines())
        found[path.stem.replace("@", " @")] = {line.pop("id"): line for line in lines}
    return found


def differences(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What of a question differs; answers count where the first token had a clear lead."""
    certain = was["margin"] is None or was["margin"] > CERTAIN
    for name in FIELDS:
        if name == "margin":
            same = was[name] == now[name] or abs((was[name] or 0) - (now[name] or 0)) < CERTAIN
        elif name == "flops":
            # An uncertain answer may be longer.
            same = not certain or abs(was[name] - now[name]) <= 1e-9 * was[name]
        else:
            same = was[name] == now[name] or (name in ("prediction", "score") and not certain)
        if not same:
            yield f"{name} was {was[name]}, is {now[name]}"


def write(runs: Mapping[str, Mapping[str, Mapping[str, Any]]], folder: Path = FOLDER) -> None:
    """A file a method, a line a question."""
    folder.mkdir(parents=True, exist_ok=True)
    for method, questions in runs.items():
        lines = (json.dumps({"id": name, **line}) + "\n" for name, line in questions.items())
        (folder / f"{method.replace(' ', '')}.jsonl").write_text("".join(lines))


def certain(here: Mapping[str, Mapping[str, Mapping[str, Any]]], there: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The first questions on which two processors agree for every method.

    Raises:
        RuntimeError: There are too few of them.
    """
    asked = sorted(next(iter(here.values())), key=sample_number)
    agreed = [name for name in asked if not any(list(differences(run[name], there[method][name])) for method, run in here.items())]
    if len(agreed) < QUESTIONS:
        raise RuntimeError(f"two processors agree on {len(agreed)} of {len(asked)} questions: raise CANDIDATES")
    return agreed[:QUESTIONS]


def add(methods: Sequence[str], folder: Path = FOLDER) -> None:
    """Record further methods on the questions that the others are recorded on.

    Raises:
        RuntimeError: Two processors do not agree on a method, or nothing is recorded yet.
    """
    asked = next(iter(recorded(folder).values()), None)
    if asked is None:
        raise RuntimeError("nothing is recorded yet: name no method, so that all are recorded")
    here, there = computed(methods=methods), _computed_elsewhere(methods)
    found = {}
    for name, run in here.items():
        if name.partition(" ")[0] not in methods:
            continue
        unsure = [question for question in asked if list(differences(run[question], there[name][question]))]
        if unsure:
            raise RuntimeError(f"two processors keep or answer otherwise with {name} on {', '.join(unsure)}")
        found[name] = {question: run[question] for question in asked}
    write(found, folder)


def _computed_elsewhere(methods: Sequence[str] = ("all",)) -> dict[str, dict[str, dict[str, Any]]]:
    """What a process computes that uses AVX2 only."""
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
    """Record, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where anything differs")
    parser.add_argument("methods", nargs="*", help="new methods to record beside the others; all anew by default")
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
