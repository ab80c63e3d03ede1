"""Many evaluations in one command, in Hydra's words."""

from __future__ import annotations

import json

import pytest

from helpers import refused
from parbench.sweep.grid import products

QUICK = ("limit=4", "engine.batch_size=4", "controls=[]", "results_dir=runs")


def test_the_order_is_that_of_hydras_own_sweeper():
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = ["method=par,fastv", "budget=range(64,193,64)", "limit=5", "+x.y=choice(1,2)", "controls=[random,uniform]"]
    (expected,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
    assert products(words) == expected
    assert len(expected) == 12


def test_globs_stand_for_names_of_a_group():
    assert products(["method=glob(prumerge*)"]) == [["method=prumerge"], ["method=prumerge-plus"]]
    assert products(["model=glob(llava-*y,exclude=llava-1*)"]) == [["model=llava-tiny"]]


def test_words_that_stand_for_one_value_stay_as_they_are():
    words = ["method=par", "budget=0.111", "results_dir=/some/where", "~tracking", "controls=[]", "shard=0/4"]
    assert products(words) == [words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "-m", "budget=interval(1,9)"], "endlessly many"),
        (["eval", "-m", "budget=1,,2"], "cannot be parsed"),
        (["eval", "-m", "method=par,fastw"], "did you mean fastv"),
        (["eval", "-m", "experiment=par_ablation"], "parbench sweep"),
        (["eval", "method=par,fastv"], "parbench eval -m takes all of them"),
        (["sweep", "dataset=scenes,scenez"], "did you mean scenes"),
        (["sweep", "shards=0"], "shards=0"),
    ],
)
def test_what_cannot_be_is_refused(run, words, said):
    assert said in refused(run, *words)


def test_evaluations_of_several_methods_budgets_and_data_sets_are_one_command(run, folder, monkeypatch):
    from parbench.models.adapter import ModelAdapter

    loaded, load = [], ModelAdapter.load
    monkeypatch.setattr(ModelAdapter, "load", lambda settings: loaded.append(settings["name"]) or load(settings))
    words = ("-m", "method=random,uniform", "budget=64,32", "dataset=scenes_shape,scenes_colour")
    code, out, err = run("eval", *words, *QUICK)
    assert code == 0, err
    assert loaded == ["llava-tiny"]
    found = [json.loads(path.read_text()) for path in (folder / "runs").glob("*/metrics.json")]
    cells = [(one["dataset"], one["method"], one["budget"]) for one in found]
    expected = [(name, budget) for name in ("random", "uniform") for budget in (64, 32)]
    for dataset in ("scenes_shape", "scenes_colour"):
        assert f"llava-tiny on {dataset} (test): 4 questions" in out
        assert sorted(cell[1:] for cell in cells if cell[0] == dataset and cell[1] != "none") == sorted(expected)
        assert (dataset, "none", None) in cells
    assert len(cells) == 10
    # A sweep of the same cells finds them done.
    code, _, err = run("sweep", "methods=[random,uniform]", "budgets=[64,32]", "dataset=scenes_colour", *QUICK)
    assert code == 0
    assert err.count("nothing recomputed") == 5


def test_fields_of_a_method_that_vary_stand_in_the_table(run):
    code, out, err = run("eval", "-m", "method=prumerge", "method.neighbours=4,8", *QUICK)
    assert code == 0, err
    assert "prumerge neighbours=4" in out
    assert "prumerge neighbours=8" in out


def test_methods_that_look_into_the_tower_leave_their_features_to_the_others(run, monkeypatch):
    from parbench.engine.images import ImageEncoder

    encoded, encode = [], ImageEncoder.encode

    def counted(self, pixels):
        encoded.append(self.site.reducer.name)
        return encode(self, pixels)

    monkeypatch.setattr(ImageEncoder, "encode", counted)
    code, _, err = run("sweep", "methods=[random,visionzip]", "budgets=[64]", *QUICK)
    assert code == 0, err
    assert set(encoded) == {"visionzip"}
