"""Golden answers: nothing that parbench computes changes unless ``numerics`` is raised."""

from __future__ import annotations

import json
import shutil

import pytest

from helpers import CLIPS
from other_source import OtherSource
from parbench.config import names as option_names
from parbench.results.naming import sample_number
from parbench.results.packed import unpack
from paths import ROOT
from record_golden import CERTAIN, FEWEST, FOLDER, QUESTIONS, add, computed, differences, golden, recorded

RAISE = "what is computed has changed: raise `numerics` (src/parbench/numerics.py) and record again: scripts/record_golden.py"
REFERENCE = ROOT / "results" / "reference" / "scenes"


# A method of each site, and of each way to choose before the LLM.
EXACT = ("par", "prumerge", "divprune", "pool", "fastv", "pyramiddrop", "tome", "skip-vision", "vistog")


def first(count: int) -> int:
    """How many questions have to be asked to ask the first ``count`` recorded ones: not all are recorded."""
    asked = next(iter(recorded().values()))
    return sorted(map(sample_number, asked))[count - 1] + 1


def changed(now: dict, was: dict) -> list[str]:
    for method, questions in was.items():
        assert method not in now or questions.keys() & now[method].keys(), f"{method}: no recorded question was asked"
    return [
        f"{method}, {name}: {text}"
        for method, questions in was.items()
        for name, line in questions.items()
        if name in now.get(method, {})
        for text in differences(line, now[method][name])
    ]


def test_every_method_is_recorded():
    known = recorded()
    names = {name.partition(" ")[0] for name in known}
    # The questions are about still images.
    shipped = set(option_names("method", outside=False)) - set(CLIPS)
    assert names == shipped, f"record {sorted(shipped - names)}: scripts/record_golden.py NAME; drop {sorted(names - shipped)}"
    assert all(FEWEST <= len(questions) <= QUESTIONS for questions in known.values())


@pytest.mark.model
def test_the_shared_engine_gives_the_first_golden_answers():
    now = computed(first(2))
    assert set(now) >= set(recorded())
    assert not changed(now, recorded()), RAISE


@pytest.mark.external
def test_the_shared_engine_gives_twenty_golden_answers():
    """In a tier of its own for its length: minutes on two cores."""
    now, was = computed(first(20)), recorded()
    assert set(now) >= set(was)
    assert all(len(questions.keys() & now[method].keys()) > 10 for method, questions in was.items())
    assert not changed(now, was), RAISE


@pytest.mark.model
@pytest.mark.smoke
def test_the_exact_engine_gives_the_golden_answers():
    now = computed(first(1), "exact", EXACT)
    assert {name.partition(" ")[0] for name in now} == {"none", *EXACT}
    assert not changed(now, recorded()), RAISE


@pytest.fixture(scope="module")
def committed() -> dict[str, dict[str, dict]]:
    """The committed runs of three methods at 64 tokens, on the weights that ship."""
    found = {}
    for run in unpack(REFERENCE):
        metrics = json.loads(run.files["metrics.json"])
        if (metrics["method"], metrics["budget"]) in (("par", 64), ("fastv", 64), ("tome", 64)):
            found[f"{metrics['method']} @64"] = {line["id"]: golden(line) for line in run.lines}
    return found


@pytest.mark.model
def test_the_committed_runs_hold(committed):
    now = computed(60, methods=("par", "fastv", "tome"))
    assert set(now) > set(committed) == {"par @64", "fastv @64", "tome @64"}
    assert all(len(now[method].keys() & questions.keys()) == 60 for method, questions in committed.items())
    assert not changed(now, committed), RAISE


@pytest.mark.external
def test_a_new_method_is_recorded_beside_the_others(folder):
    shutil.copy(FOLDER / "none.jsonl", folder)
    add(["first-n"], folder)
    assert {path.name for path in folder.iterdir()} == {"none.jsonl", "first-n@64.jsonl"}
    assert not changed(recorded(folder), recorded())


def test_what_counts_as_a_difference():
    was = {"prediction": "yes", "score": 1.0, "margin": 2.0, "kept": ["ff"], "visual": [[64, 12]], "flops": 10.0}
    assert not list(differences(was, was))
    assert list(differences(was, {**was, "kept": ["fe"]})) == ["kept was ['ff'], is ['fe']"]
    assert list(differences(was, {**was, "prediction": "no", "score": 0.0})) != []
    near = {**was, "margin": CERTAIN / 2}
    assert not list(differences(near, {**near, "prediction": "no", "score": 0.0, "margin": CERTAIN / 4}))
    assert list(differences(near, {**near, "prediction": "no", "kept": ["fe"]})) == ["kept was ['ff'], is ['fe']"]
    assert list(differences(was, {**was, "flops": 11.0})) == ["flops was 10.0, is 11.0"]


@pytest.mark.model
def test_a_changed_threshold_is_seen(folder):
    """A parbench that differs in one constant of ``ops``: from where on PruMerge's attention counts as an outlier."""
    other = OtherSource(folder)
    other.replace("ops/selection.py", "q3 + 1.5 * (q3 - q1)", "q3 + 1.4 * (q3 - q1)")
    said = other.run("import json, record_golden as golden; print('RUNS', json.dumps(golden.computed(30, methods=['prumerge'])))")
    (line,) = (line for line in said.splitlines() if line.startswith("RUNS "))
    found = changed(json.loads(line.removeprefix("RUNS ")), recorded())
    assert found
    assert all(text.startswith("prumerge, ") for text in found)
