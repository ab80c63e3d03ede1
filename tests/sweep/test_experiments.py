"""Experiments: variants of one method, each with a threshold of its own, in one table."""

from __future__ import annotations

import pytest

from parbench.config import compose_config, names

MINE = """# @package _global_
dataset: {split: val}
budget: 64
controls: []
calibration: {questions: 24}
variants:
  as it is: []
  no router: [method.redundancy_threshold=1.0]
  impossible: [method.graph=space, method.redundancy_threshold=0.1]
"""


@pytest.fixture
def mine(folder, monkeypatch):
    """An experiment of one's own, found by the search path."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "mine.yaml").write_text(MINE)
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(folder / "conf"))


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_composes(name):
    config = compose_config([f"experiment={name}"])
    assert config.variants
    assert config.dataset.split == "val"
    for overrides in config.variants.values():
        compose_config([f"experiment={name}", *overrides])


def test_variants_get_thresholds_and_stand_in_one_table(mine, run, folder):
    code, out, err = run("sweep", "experiment=mine", "limit=16")
    assert code == 0, err
    assert "as it is" in out
    assert "no router" in out
    assert "external and internal redundancy" in out
    assert "skipped: impossible: target=64 is out of reach" in err
    # The default has a shipped threshold; the other's is kept for the next time.
    assert len(list((folder / "calibrations" / "variants").glob("llava-tiny--par--*.yaml"))) == 1
    code, _, again = run("sweep", "experiment=mine", "limit=16")
    assert code == 0
    assert again.count("nothing recomputed") == 3
    # Only what is out of reach is tried again, at the lowest bar.
    assert "relevance_threshold=1.0:" in err
    assert "relevance_threshold=1.0:" not in again


def test_methods_have_no_place_in_an_experiment(run):
    code, _, err = run("sweep", "experiment=par_ablation", "methods=fastv")
    assert code == 2
    assert "defines its variants" in err


def test_an_experiment_is_not_one_evaluation(run):
    code, _, err = run("eval", "experiment=par_ablation")
    assert code == 2
    assert "parbench sweep" in err
