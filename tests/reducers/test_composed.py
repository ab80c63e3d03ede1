"""Composed methods ``a+b``: their names, their budgets, and runs in which both parts act."""

from __future__ import annotations

import dataclasses
import json

import pytest
from omegaconf import OmegaConf

import parbench
from helpers import identity_of, reducer, refused, sample
from parbench.compute.flops import costs, sample_flops
from parbench.compute.method_overhead import OwnWork
from parbench.compute.predict import plan
from parbench.config import build_reducer, compose_config
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.families.qwen2_5_vl import Qwen25VL
from parbench.models.geometry import Geometry
from parbench.reducers.composing import check_parts
from parbench.reducers.needs import refusal, substitute
from parbench.results.naming import row_name
from parbench.testing import check_method
from parbench.testing.questions import few_questions

# One for each place before the LLM.
PAIRS = ["visionzip+pyramiddrop", "tome+fastv", "downsample+vtw"]


def composed(*words: str, budget=None):
    return build_reducer(compose_config(words).method, budget)


@pytest.mark.parametrize(
    ("words", "enter", "left"),
    [
        (["method=visionzip+fastv"], 96, {1: 61}),
        (["method=visionzip+fastv", "method.inside.layer=6"], 96, {6: 32}),
        (["method=visionzip+fastv", "method.before.budget=128", "method.inside.layer=4"], 128, {4: 32}),
        (["method=visionzip+fastv", "method.budget=null", "method.before.budget=100"], 100, {1: 50}),
        (["method=visionzip+fastv", "method.inside.budget=32", "method.inside.layer=6"], 48, {6: 16}),
        (["method=visionzip+fastv", "method.budget=0.111", "method.inside.layer=6"], 96, {6: 32}),
        (["method=visionzip+fastv", "method.inside.budget=0.111", "method.inside.layer=6"], 96, {6: 32}),
        (["method=visionzip+fastv", "method.budget=500"], 576, {1: 493}),
        (["method=visionzip+fastv", "method.budget=576"], 576, {1: 576}),
        (["method=random+pyramiddrop", "method.inside.layers=[4,8]", "method.inside.ratios=[0.5,0.25]"], 96, {4: 59, 8: 37}),
    ],
)
def test_the_average_over_layers_is_the_budget(geometry, words, enter, left):
    method = composed(*words).in_tokens(geometry)
    assert method.before.budget == enter
    assert dict(zip(method.stages(geometry), method.left(geometry), strict=True)) == left
    if method.budget is not None:
        assert sum(method.by_layer(geometry)) / geometry.layers == pytest.approx(method.budget, abs=0.5)
    method.check(geometry)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=fastv+visionzip"], r"wrong order.*write visionzip\+fastv"),
        (["method=visionzip+vispruner"], r"drops no tokens inside the LLM: use one such as visionzip\+fastv"),
        (["method=visionzip+yopo"], r"use one such as visionzip\+fastv"),
        (["method=fastv+vtw"], r"drops its tokens inside the LLM, where only the second part can: use one such as visionzip\+vtw"),
        (["method=yopo+vtw"], r"masks attention inside the LLM and lets all tokens enter: use one such as visionzip\+vtw"),
        (["method=skip-vision+fastv"], r"some of its tokens skip the MLPs of layers in which a second part would drop tokens: use"),
        (["method=none+vtw"], r"drops nothing: use one such as visionzip\+vtw"),
        (
            ["method=dymu+fastv", "method.before.unmerge=true"],
            r"has every patch in the attention of the LLM",
        ),
        (["method=visionzip+fastw"], "unknown method in visionzip.fastw 'fastw': did you mean fastv"),
        (["method=visionzip+fastv+vtw"], r"does not have two parts.*such as visionzip\+fastv"),
        (["method=visionzip+"], "does not have two parts"),
        (["method=dymu+fastv"], "only on average.*a method that keeps its budget exactly"),
        (["method=par+fastv", "method.before.per_image=false"], "use method.before.per_image=true"),
        (["method=visionzip+fastv", "method.before.budget=32"], "use method.before.budget=64 or more"),
        (["method=visionzip+fastv", "method.before.budget=0.05"], "lets in 29.*use method.before.budget=64 or more"),
        (["method=visionzip+fastv", "method.before.budget=700"], "method.before.budget=700.*use 1 to 576"),
        (["method=visionzip+fastv", "method.before.budget=-1"], "method.before.budget=-1 is not possible"),
        (["method=visionzip+fastv", "method.budget=700"], "^budget=700.*use 1 to 576"),
        (["method=visionzip+fastv", "method.budget=64", "method.inside.budget=32"], "same average.*set budget=32"),
        (["method=visionzip+fastv", "method.budget=null"], "needs a budget: use budget=64, or method.before.budget=96"),
        (["method=visionzip+fastv", "method.inside.layer=10"], "while visionzip lets in 96.*use method.before.budget=76$"),
        (["method=visionzip+fastv", "method.inside.layer=40"], "method.inside.layer=40 of fastv: the model has only 12"),
        (["method=visionzip+fastv", "method.inside.layer=x"], "method.inside.layer=x of fastv is of the wrong kind"),
        (["method=visionzip+fastv", "method.inside.layr=3"], "unknown configuration key in method.inside 'layr'.*layer"),
        (["method=visionzip+fastv", "method.before=fastv"], "method.before=fastv of visionzip.fastv is not a method"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(geometry, words, said):
    with pytest.raises(ParbenchError, match=said) as error:
        composed(*words).check(geometry)
    assert "\n" not in str(error.value)


def test_what_the_weights_of_a_part_cannot_deliver_is_refused_by_the_name_of_the_part(adapter):
    method = composed("method=tofc-codec+fastv", "budget=64", "method.before.budget=96")
    with pytest.raises(ParbenchError, match=r"^method.before.budget=96 of method tofc-codec is out of reach"):
        method.for_model("llava-tiny", lambda: adapter.fingerprint, adapter.geometry)


def test_a_method_at_a_site_of_ones_own_is_refused_for_its_site():
    kind = type(reducer("random"))
    elsewhere = type("Elsewhere", (kind,), {"site": "elsewhere"})(name="mine", budget=64)
    with pytest.raises(ParbenchError, match="acts at the site elsewhere, and only methods at pixels, tower, tokens can come first"):
        check_parts("mine+fastv", elsewhere, reducer("fastv"))


def test_the_budget_that_a_refusal_names_is_possible(geometry):
    composed("method=visionzip+fastv", "method.inside.layer=10", "method.before.budget=76").check(geometry)


def test_its_parts_decide_what_it_is():
    method = composed("method=trim+fastv")
    assert (method.title, method.site, method.prompt_aware, method.control) == ("TRIM + FastV", "layers", True, False)
    assert method.needs_clip
    assert method.paper == "arXiv 2409.10994, arXiv 2403.06764"
    assert not composed("method=visionzip+vtw").prompt_aware
    assert composed("method=random+random-in-llm").control
    assert composed("method=random+random-in-llm").free


def test_both_parts_are_in_the_identity(geometry):
    found = composed("method=visionzip+fastv", "method.inside.layer=6").in_tokens(geometry).settings()
    assert (found["name"], found["budget"]) == ("visionzip+fastv", 64)
    assert (found["before"]["class"], found["before"]["budget"]) == ("parbench.reducers.visionzip.VisionZip", 96)
    assert found["inside"]["layer"] == 6
    # A field that came later is no part of it while it is not set.
    assert "within" not in found["before"]
    assert "positions" not in found
    plain = composed("method=visionzip+fastv", "method.before.budget=96", "method.inside.layer=6").settings()
    assert plain == found


def test_what_a_model_lacks_is_replaced_in_the_part_that_needs_it():
    method = composed("method=cls-topk+fastv")
    sizes = Geometry(0, 0, 24, 27, 14, tokens=1000, varies=True, family=Qwen25VL.title, offers=Qwen25VL.offers)
    assert "use method.before.attention=received" in str(refusal(method, sizes))
    instead = method.with_fields(substitute(method, sizes))
    assert refusal(instead, sizes) is None
    assert row_name(instead.settings()) == "cls-topk+fastv @64 (received)"


def test_images_of_other_sizes_keep_the_layers_of_the_usual_one():
    """Small images may enter whole, while the layers are those of an image of 576 tokens."""
    sizes = Geometry(0, 0, 32, 24, 14, tokens=1000, varies=True)
    method = composed("method=random+pyramiddrop", "method.before.budget=512", "method.budget=64")
    stages = method.stages(sizes)
    assert stages[0] < 8
    for tokens in (70, 100, 576, 3000):
        image = sizes.of_image(tokens, (0, 0))
        assert method.stages(image) == stages
        assert sum(method.by_layer(image)) / 32 == pytest.approx(64, abs=0.6)
    share = composed("method=random+fastv", "method.budget=0.2")
    assert [share.let_in(sizes.of_image(tokens, (0, 0))) for tokens in (1, 10, 1000)] == [1, 3, 300]


def test_it_conforms(adapter):
    check_method(composed("method=tome+fastv"), adapter, few_questions(adapter))


@pytest.mark.parametrize("name", PAIRS)
def test_shared_computation_gives_what_runs_apart(adapter, scenes, name):
    samples = [sample(adapter, scenes[number], number) for number in (0, 1, 2, 10, 11, 12)]
    method = composed(f"method={name}")
    shared = Engine(adapter, method).answer(samples)
    for one, question in zip(shared, samples, strict=True):
        (other,) = Engine(adapter, method, share=False).answer([question])
        assert (one.text, one.kept, one.stages) == (other.text, other.kept, other.stages)
        assert one.margin == pytest.approx(other.margin, rel=1e-3, abs=1e-3)
        assert dataclasses.replace(one.ledger, reducer_flops=other.ledger.reducer_flops) == other.ledger


@pytest.mark.parametrize("name", [*PAIRS, "cdpruner+sparsevlm"])
def test_a_run_is_what_was_predicted(adapter, scenes, name):
    method = composed(f"method={name}").in_tokens(adapter.geometry)
    asked = sample(adapter, scenes[4], max_new_tokens=1)
    (answer,) = Engine(adapter, method).answer([asked])
    planned = plan("", adapter.geometry, method, 64, "after_projector")
    assert list(planned.visual) == list(answer.ledger.visual)
    assert tuple(planned.tower) == answer.ledger.tower[0]
    assert planned.projected == answer.ledger.projector
    if name != "cdpruner+sparsevlm":
        model = OmegaConf.to_container(compose_config([]).model, resolve=True)
        ids = adapter.tokenizer(asked.prompt(1)).input_ids
        system = ids.index(adapter.image_token_id)
        own = OwnWork(model, scenes[4]["question"])
        assert own(method, planned, len(ids) - system - 1, system) == answer.ledger.reducer_flops


def test_both_parts_choose(adapter, scenes):
    asked = [sample(adapter, scenes[4])]
    (answer,) = Engine(adapter, composed("method=visionzip+fastv", "method.inside.layer=6")).answer(asked)
    (first,) = Engine(adapter, reducer("visionzip", 96)).answer(asked)
    assert answer.stages == {"visionzip": 96, "layer 6": 32}
    assert answer.ledger.visual == (96,) * 6 + (32,) * 6
    assert answer.kept[0].tokens == 32
    assert set(answer.kept[0].patches) < set(first.kept[0].patches)


def test_the_vision_tower_costs_what_it_costs_with_the_first_part_alone(adapter, scenes):
    asked, prices = [sample(adapter, scenes[4])], costs(adapter.model.config)
    both, alone = (
        Engine(adapter, method).answer(asked)[0].ledger for method in (composed("method=flowcut+fastv"), reducer("flowcut", 96))
    )
    assert both.tower == alone.tower
    assert sample_flops(prices, both)["vision"] == sample_flops(prices, alone)["vision"]


def test_python_takes_its_name_and_its_fields():
    method = parbench.method("visionzip+fastv", budget=64, before={"budget": 128}, inside={"layer": 4}, model="llava-tiny")
    assert (method.before.budget, method.inside.layer) == (128, 4)
    assert parbench.method("visionzip+fastv", inside={"budget": 32}).budget == 32
    with pytest.raises(ParbenchError, match=r"unknown field of method.*'layer': known are before, inside"):
        parbench.method("visionzip+fastv", layer=4)
    with pytest.raises(ParbenchError, match="wrong order"):
        parbench.method("fastv+visionzip")


def test_it_is_evaluated_by_its_name(run, tmp_path):
    code, out, err = run("sweep", "methods=[random+vtw]", "budgets=[96]", "limit=4", "controls=[]", f"results_dir={tmp_path}")
    assert code == 0, err
    assert "random+vtw @96" in out
    assert "random lets in 144 visual tokens, vtw makes it 96 on average over the layers" in " ".join(out.split())
    folder = next(path.parent for path in tmp_path.glob("*/metrics.json") if "random+vtw" in path.read_text())
    assert identity_of(folder)["method"]["before"]["budget"] == 144
    stages = json.loads((folder / "metrics.json").read_text())["stages"]
    assert {name: entry["mean"] for name, entry in stages.items()} == {"random": 144, "layer 8": 0}
    code, out, err = run("table", f"results_dir={tmp_path}", "views=[stages]")
    assert "144.0" in next(line for line in out.splitlines() if "random+vtw @96" in line)


def test_other_commands_take_its_name(run):
    code, out, err = run("flops", "methods=[random+fastv]", "tokens=[64]", "model=llava-1.5-7b", "--json")
    assert code == 0, err
    (row,) = json.loads(out)
    assert (row["method"], row["tokens"]) == ("random+fastv", 64)
    assert "did you mean fastv" in refused(run, "sweep", "methods=[random+fastw]")
    assert "unknown method in controls" not in str(compose_config(["controls=[random+fastv]"]))


def test_a_method_with_a_part_of_its_own_before_the_llm_names_its_stages_itself(adapter, scenes):
    (answer,) = Engine(adapter, reducer("interaction", 64)).answer([sample(adapter, scenes[4])])
    assert list(answer.stages) == ["knee", "layer 1"]
