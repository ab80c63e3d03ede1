"""What a sweep says before it starts, and when it does not count as done."""

from __future__ import annotations

import sys

import pytest

import parbench.harness.evaluate
from helpers import refused
from parbench.errors import FatalError
from parbench.models.adapter import ModelAdapter
from parbench.sweep import estimate
from small_data import metrics

SMALL = ("controls=[]", "limit=2", "results_dir=runs")


def test_with_nothing_named_it_says_what_it_would_start_and_wants_a_yes(run, folder, monkeypatch):
    monkeypatch.setattr(estimate, "UNASKED", 0.0)
    said = refused(run, "sweep", *SMALL)
    # none, and three methods at three budgets.
    assert "would start 10 runs, 20 questions, about " in said
    assert "add --yes to start it" in said
    assert not (folder / "runs").exists()


def test_a_person_is_asked(run, folder, monkeypatch):
    monkeypatch.setattr(estimate, "UNASKED", 0.0)
    monkeypatch.setattr(estimate, "_measured", lambda session: 100.0)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    assert run("sweep", *SMALL)[0] == 2
    assert asked == ["This sweep would start 10 runs, 20 questions, about 33 min 20 s. Go on?"]
    assert not (folder / "runs").exists()


def test_a_model_whose_rate_was_measured_is_not_loaded_again(run, folder, monkeypatch):
    loaded, load = [], ModelAdapter.load
    monkeypatch.setattr(ModelAdapter, "load", lambda settings: loaded.append(settings["name"]) or load(settings))

    def full(*_, **__):
        raise FatalError("the disk is full")

    # At the first run, for which the model is there.
    monkeypatch.setattr(parbench.harness.evaluate, "evaluate", full)
    assert refused(run, "sweep", *SMALL) == "parbench: the disk is full"
    assert loaded == ["llava-tiny"]


@pytest.mark.parametrize("words", [("methods=[random]", "budgets=[64]"), ("budgets=[64]", "methods=[random]", "--yes")])
def test_what_is_named_starts_at_once(run, folder, monkeypatch, words):
    monkeypatch.setattr(estimate, "UNASKED", 0.0)
    code, _, err = run("sweep", *words, *SMALL)
    assert code == 0, err
    assert set(metrics(folder / "runs")) == {"none", "random"}


def test_a_method_that_did_not_run_at_all_is_a_failure(run, folder):
    code, out, err = run("sweep", "methods=[random,vtw]", "budgets=[64,32]", *SMALL)
    assert code == 1
    assert "random @64" in out
    # Both budgets are refused for one reason, which is said once.
    assert err.count("skipped") == 1
    assert "skipped: budget=64, 32 of method vtw is out of reach: " in err
    assert "vtw: did not run at all: " in err
    # One of its budgets is enough.
    code, _, err = run("sweep", "methods=[random,vtw]", "budgets=[64,192]", *SMALL)
    assert code == 0, err
