"""``parbench.evaluate``, ``load_results``, ``compare`` and ``flops``: what the commands give, as objects."""

from __future__ import annotations

import io
import json
import shutil

import pandas as pd
import pytest

import parbench
from parbench.errors import ParbenchError
from parbench.models.assets import asset

pytestmark = pytest.mark.cli


def test_runs_are_evaluated_read_back_and_compared(run, tmp_path, capsys):
    asked = {"methods": ["uniform"], "budgets": [64, 16], "limit": 8, "results_dir": tmp_path / "runs", "controls": []}
    runs = parbench.evaluate(**asked)
    assert capsys.readouterr().out == ""
    assert repr(runs) == "<3 runs: none, uniform @64, uniform @16>"
    assert len(repr(runs[0])) < 2000
    assert list(runs.frame["label"]) == ["none", "uniform @64", "uniform @16"]
    assert [one.metrics.n for one in runs] == [8, 8, 8]
    assert len(runs.samples) == 24
    again = parbench.load_results(tmp_path / "runs")
    assert [one.id for one in again] == [one.id for one in runs]
    before = [(one.folder / "metrics.json").stat().st_mtime_ns for one in runs]
    assert [one.id for one in parbench.evaluate(**asked)] == [one.id for one in runs]
    assert [(one.folder / "metrics.json").stat().st_mtime_ns for one in runs] == before
    compared = parbench.compare(runs)
    _, out, _ = run("table", str(tmp_path / "runs"), "format=csv")
    written = pd.read_csv(io.StringIO(out))
    assert list(compared.columns) == list(written.columns)
    for column in ("label", "score", "score_low", "score_high", "tokens_mean"):
        assert list(compared[column]) == pytest.approx(list(written[column]), nan_ok=True) or list(compared[column]) == list(
            written[column]
        )
    assert parbench.compare(tmp_path / "runs").equals(compared)
    # The very runs of the command.
    run("sweep", "methods=[uniform]", "budgets=[64,16]", "limit=8", "controls=[]", f"results_dir={tmp_path / 'runs'}")
    assert len(parbench.load_results(tmp_path / "runs")) == 3


def test_a_model_in_a_folder(tmp_path):
    """It has the weights of the shipped one, and so the same answers."""
    folder = shutil.copytree(asset("llava-tiny"), tmp_path / "my llava")
    asked = {"methods": "uniform", "limit": 4, "controls": [], "results_dir": tmp_path / "runs"}
    mine = parbench.evaluate(model=str(folder), **asked, **{"model.dtype": "float32"})
    usual = parbench.evaluate(**asked)
    assert [one.identity["model"] for one in mine] == ["my llava"] * 2
    assert [line.prediction for one in mine for line in one.lines] == [line.prediction for one in usual for line in one.lines]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"methods": ["unifrom"]}, "unknown method 'unifrom': did you mean uniform"),
        ({"methods": "uniform", "budgets": "abc"}, "abc"),
        ({"methods": "uniform", "dataset": "scnes"}, "scnes"),
        ({"methods": "uniform", "limt": 3}, "limt"),
        ({"methods": "uniform", "model": "lava-tiny"}, "unknown model 'lava-tiny': did you mean llava-tiny"),
        ({"methods": "fastv", "budgets": 5, "limit": 2}, "budget=5 of method fastv is out of reach"),
        ({"methods": "uniform", "engine": {"batch": 3}}, "batch"),
    ],
)
def test_what_cannot_be_evaluated(asked, said, tmp_path):
    with pytest.raises(ParbenchError, match=said):
        parbench.evaluate(**asked, results_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_runs():
    with pytest.raises(ParbenchError, match="does not exist"):
        parbench.load_results("no/such")
    with pytest.raises(ParbenchError, match="no runs to compare"):
        parbench.compare([])


def test_flops_are_those_of_the_command(run):
    _, out, _ = run("flops", "model=llava-1.5-7b", "tokens=[576,64]", "text=60", "--json")
    assert parbench.flops().to_dict("records") == json.loads(out)
    assert parbench.flops("llava-tiny", 64, [20, 40], method="fastv")["llm_prefill"].is_monotonic_increasing
    with pytest.raises(ParbenchError, match="tokens=577 is impossible for llava-tiny"):
        parbench.flops("llava-tiny", 577)
    with pytest.raises(ParbenchError, match="unknown place"):
        parbench.flops(place="before")
