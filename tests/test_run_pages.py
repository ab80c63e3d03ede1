"""The pages that are written from folders of runs: the claim, which method to use, and two witnesses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

import write_claim
import write_two_witnesses
import write_which_method
from made_runs import identity, line, write_run, write_scores
from page_text import made_by, words_in
from parbench.cli import main
from parbench.errors import ParbenchError
from parbench.results import load
from parbench.tables.choice import choices
from parbench.tables.measured import measured
from parbench.tables.witnesses import witnesses
from paths import ROOT


@pytest.mark.long
@pytest.mark.parametrize("script", [write_claim, write_which_method, write_two_witnesses])
def test_the_pages_are_those_of_the_committed_runs(script, monkeypatch):
    monkeypatch.chdir(ROOT)
    written = script.arguments().get_default("out").read_text(encoding="utf-8")
    words = words_in(written)
    assert script.page(words) == written, f"run: python scripts/{Path(script.__file__).name} {' '.join(words)}"


def test_a_page_says_how_it_was_made_without_the_file_that_was_written():
    said = made_by("scripts/write_claim.py", ["a b", "--out", "x.md", "--budget=64", "--out=y.md"])
    assert said == "Made by `python scripts/write_claim.py 'a b' --budget=64`."
    assert words_in(f"# A page\n\n{said}\n") == ["a b", "--budget=64"]


@pytest.fixture(scope="module")
def scores(tiny_sweep) -> dict[str, list[float]]:
    """The scores of each run, straight from its file."""
    found = {}
    for row in load(tiny_sweep, columns=[]).runs.itertuples():
        lines = (tiny_sweep / row.run_id / "samples.jsonl").read_text().splitlines()
        found[row.label] = [line["score"] for line in sorted(map(json.loads, lines), key=lambda line: line["id"])]
    return found


def rows_of(page: str, heading: str) -> dict[str, list[str]]:
    """The rows of the first table under a heading, by their first cell."""
    part = page.split(heading, 1)[1]
    table = re.search(r"^\|---.*?\n(.*?)(?:\n\n|\Z)", part, re.M | re.S)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.group(1).strip().splitlines()]
    return {row[0]: row[1:] for row in cells}


def test_a_claim_is_made_of_the_scores_of_the_runs(tiny_sweep, scores):
    page = write_claim.page([str(tiny_sweep)])
    mean = {label: sum(found) / len(found) for label, found in scores.items()}
    kept = rows_of(page, "## What is retained")
    assert float(kept["`par @64`"][2].split()[0]) == pytest.approx(100 * mean["par @64"] / mean["none"], abs=0.05)
    against = rows_of(page, "## Against every other method at 64 tokens")
    assert set(against) == {"`fastv`", "`tome`", "`random` (control)", "`uniform` (control)"}
    for name, cells in against.items():
        other = mean[f"{name.split('`')[1]} @64"]
        assert float(cells[5].split()[0]) == pytest.approx(100 * (mean["par @64"] - other), abs=0.05)
    assert "PAR was measured at budgets of 128, 64, and unreduced." in page
    assert set(rows_of(page, "## At equal accuracy")) == set(against)


def test_a_claim_that_runs_cannot_support_is_refused(tiny_sweep):
    for words, said in [
        (["--method=fatv"], "fastv"),
        (["--budget=96"], "par was not run at a budget of 96: there are 128, 64"),
        (["dataset=pope"], "no run has dataset=pope"),
    ]:
        with pytest.raises(ParbenchError, match=said):
            write_claim.page([str(tiny_sweep), *words])


def test_a_page_is_written_and_an_error_is_one_line(tiny_sweep, tmp_path, capsys):
    write_which_method.main([str(tiny_sweep), f"--out={tmp_path}/page.md"])
    assert capsys.readouterr().out == f"{tmp_path}/page.md\n"
    assert (tmp_path / "page.md").read_text().startswith("# Which method should I use?")
    with pytest.raises(SystemExit, match=r"^error: nowhere"):
        write_which_method.main(["nowhere", f"--out={tmp_path}/page.md"])


def test_what_is_recommended_is_first_and_no_other_run_is(tiny_sweep, scores):
    page = write_which_method.page([str(tiny_sweep)])
    of = measured(load(tiny_sweep))
    for budget in (128.0, 64.0):
        overall = choices(of, budget)[0]
        names = [of.runs["series"].iloc[place] for place in (*overall.first, *overall.others)]
        assert set(names) == {"par", "fastv", "tome", "random", "uniform"}
        best = max(names, key=lambda name: sum(scores[f"{name} @{budget:g}"]))
        assert sum(scores[f"{names[0]} @{budget:g}"]) == sum(scores[f"{best} @{budget:g}"])
        assert f"**At {budget:g} tokens**, `{names[0]}` is the most accurate" in page
        row = rows_of(page, f"At {budget:g} tokens:")["all questions"]
        assert row[1] == f"{len(overall.first)} of 5"
    assert "No times were measured for these runs" in page


def made(folder: Path, model: str, shares: dict[str, float]) -> None:
    """Runs of a model with some accuracies at 64 tokens, on 400 questions."""
    for seed, (method, share) in enumerate(shares.items()):
        scores = (np.random.default_rng(seed).random(400) < share).astype(float).tolist()
        write_scores(folder, scores, method, None if method == "none" else 64, model=model)


def test_what_is_first_on_several_models_is_named_and_a_mixture_is_refused(tmp_path):
    made(tmp_path, "one", {"none": 0.95, "par": 0.9, "trim": 0.9, "fastv": 0.3})
    made(tmp_path, "two", {"none": 0.95, "par": 0.9, "trim": 0.4, "fastv": 0.2})
    page = write_which_method.page([str(tmp_path)])
    assert {"one", "two"} == set(re.findall(r"^## `(\w+)` on", page, re.M))
    assert rows_of(page, "## In all settings") == {"64": ["2", "`par`"]}
    with pytest.raises(ParbenchError, match="differ in model"):
        write_claim.page([str(tmp_path)])
    # Rows of one name are not taken for one another.
    write_scores(tmp_path, [1.0] * 400, "par", 64, model="one", seed=1)
    with pytest.raises(ParbenchError, match="differ in seed"):
        write_which_method.page([str(tmp_path)])


def test_learned_methods_are_compared_apart(tmp_path):
    made(tmp_path, "one", {"none": 0.95, "par": 0.9, "trim": 0.5})
    lines = [line(number, float(number % 2)) for number in range(400)]
    about = {"said": "trained on one by this project", "seed": 0}
    write_run(tmp_path, lines, identity("vistog", 64, model="one"), trained=about)
    page = write_claim.page([str(tmp_path)])
    assert "Of 1 methods and 0 controls" in page
    assert set(rows_of(page, "## Against every other method")) == {"`trim`"}
    assert set(rows_of(page, "[Learned methods](learned.md)")) == {"`vistog`"}
    assert float(rows_of(page, "[Learned methods](learned.md)")["`vistog`"][1].split()[0]) == 50


@pytest.fixture(scope="module")
def eager(tmp_path_factory) -> Path:
    """Real runs of the same model with another kernel, which stands for another model."""
    folder = tmp_path_factory.mktemp("eager")
    words = ["methods=[par,tome]", "controls=[random,uniform]", "budgets=[64]", "limit=24", "model.attention=eager"]
    assert main(["sweep", *words, f"results_dir={folder}"]) == 0
    return folder


@pytest.mark.cli
def test_two_witnesses_agree_as_far_as_their_scores_do(tiny_sweep, eager, scores):
    page = write_two_witnesses.page([str(tiny_sweep), str(eager)])
    found = witnesses(load(tiny_sweep), load(eager))
    [at] = found.at
    assert set(at.series) == {"par", "tome", "random", "uniform"}
    assert found.paired
    assert found.names == ("llava-tiny (attention=sdpa)", "llava-tiny (attention=eager)")
    assert at.scores[0] == pytest.approx([sum(scores[f"{name} @64"]) / 24 for name in at.series])
    assert at.found.tau.point == pytest.approx(kendalltau(*at.scores).statistic)
    # The kernel changes no answer here, so the two orders are one.
    assert at.scores[0] == pytest.approx(at.scores[1])
    assert at.found.tau.point == pytest.approx(1)
    assert not at.found.opposite.any()
    rows = rows_of(page, "## At 64 tokens")
    assert {name.split("`")[1] for name in rows} == set(at.series)
    # Two methods without controls are no order.
    assert at.methods is None


@pytest.mark.cli
def test_budgets_that_differ_are_paired(tiny_sweep, eager, scores):
    page = write_two_witnesses.page([str(tiny_sweep), str(eager), "--budgets=128:64"])
    [(budget, cells)] = rows_of(page, "## Do the orders agree?").items()
    assert budget == "128 and 64"
    sides = [[sum(scores[f"{name} @{at}"]) for name in ("par", "tome", "random", "uniform")] for at in (128, 64)]
    assert float(cells[1].split()[0]) == pytest.approx(kendalltau(*sides).statistic, abs=0.005)


def test_a_method_with_other_settings_on_the_other_model_is_one_row(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    made(one, "one", {"none": 0.95, "par": 0.9, "dart": 0.7, "trim": 0.8})
    made(other, "other", {"none": 0.95, "par": 0.9, "dart": 0.7})
    write_scores(other, [1.0] * 320 + [0.0] * 80, "trim", 64, model="other", method__space="llm")
    rows = rows_of(write_two_witnesses.page([str(one), str(other)]), "## At 64 tokens")
    assert set(rows) == {"`par`", "`dart`", "`trim`, there `trim (llm)`"}
    # Either of two rows of a method could be the one of the first model.
    write_scores(other, [1.0] * 400, "trim", 64, model="other", method__attention="received")
    with pytest.raises(ParbenchError, match="no budget at which both models have 3 methods"):
        write_two_witnesses.page([str(one), str(other)])


@pytest.mark.cli
def test_two_witnesses_that_are_none_are_refused(tiny_sweep, eager):
    for words, said in [
        ([str(tiny_sweep)], "two folders"),
        ([str(tiny_sweep), str(tiny_sweep)], "runs of llava-tiny in the same setting"),
        ([str(tiny_sweep), str(eager), "--budgets=many"], "--budgets=many is no list of budgets"),
        ([str(tiny_sweep), str(eager), "--budgets=192"], "no budget at which both models have 3 methods"),
    ]:
        with pytest.raises(ParbenchError, match=said):
            write_two_witnesses.page(words)
