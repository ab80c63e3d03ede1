"""A method's own work at a model's sizes, against what real runs of the method count."""

from __future__ import annotations

import json

import pytest
import torch
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from helpers import METHODS, reducer, sample, within_reach
from parbench.compute.method_overhead import OwnWork
from parbench.compute.predict import plan
from parbench.config import compose_config, names
from parbench.engine.engine import Engine
from parbench.models import counting
from parbench.models.counting import own_flops
from parbench.models.geometry import geometry_of


def work(model: str, question: str) -> OwnWork:
    return OwnWork(OmegaConf.to_container(compose_config([f"model={model}"]).model, resolve=True), question)


def counted(own: OwnWork, method, after: int = 25, system: int = 35) -> int:
    tokens = method.asked(own.shapes.geometry)
    return own(method, plan("", own.shapes.geometry, method, tokens, "after_projector"), after, system)


@pytest.fixture(scope="module")
def row(scenes):
    return scenes[4]


@pytest.fixture(scope="module")
def tiny(row):
    return work("llava-tiny", row["question"])


@pytest.mark.parametrize("name", METHODS)
def test_it_is_what_a_run_counts(adapter, scenes, row, tiny, name):
    """Exactly, unless what a method multiplies depends on the image's values."""
    method = within_reach(name, adapter.geometry)
    asked = [sample(adapter, {**row, "image": scenes[number]["image"]}, max_new_tokens=1) for number in (4, 40, 80)]
    spent = [Engine(adapter, method).answer([one])[0].ledger.reducer_flops for one in asked]
    # Here no image has a centre of Recoverable Compression.
    if len(set(spent)) > 1 or name == "recoverable":
        pytest.skip("depends on the image")
    # The image's placeholder stands between what comes before it and behind it.
    ids = adapter.tokenizer(asked[0].prompt(1)).input_ids
    system = ids.index(adapter.image_token_id)
    assert counted(tiny, method, len(ids) - system - 1, system) == spent[0]


def test_where_values_decide_it_is_near(adapter, row, tiny):
    one = sample(adapter, row, max_new_tokens=1)
    ids = adapter.tokenizer(one.prompt(1)).input_ids
    system = ids.index(adapter.image_token_id)
    for name in ("par", "sparsevlm", "dymu", "recoverable"):
        method = reducer(name, 64)
        (answer,) = Engine(adapter, method).answer([one])
        found = counted(tiny, reducer(name, 64), len(ids) - system - 1, system)
        assert 0.5 < found / answer.ledger.reducer_flops < 2, name


def test_the_text_tower_is_in_it():
    own = work("llava-1.5-7b", "Is there a dog?")
    # Four words, a mark, begin and end.
    n, c, m, p, width, patches = 7, 768, 3072, 768, 1024, 576
    tower = 12 * 2 * (n * (4 * c * c + 2 * c * m) + 2 * n * n * c) + 2 * c * p
    # Patches into CLIP's space, their products with the text, and the mean of what is not kept.
    selecting = 2 * patches * (width * p + p + 64 * width)
    assert counted(own, reducer("trim", 64)) == tower + selecting


def test_a_longer_question_costs_more(tiny):
    longer = work("llava-tiny", tiny.question + " Look at the red circle near the green sign.")
    for name in ("trim", "cdpruner", "par"):
        assert counted(longer, reducer(name, 64)) > counted(tiny, reducer(name, 64))


def test_ranking_by_the_stages_own_layer_pays_its_keys(tiny):
    geometry = geometry_of(tiny.config)
    method = reducer("pyramiddrop", 96)
    width = tiny.config.text_config.hidden_size
    lengths = [60 + count for count in method.by_layer(geometry)]
    # Before each stage: keys of all tokens, and one query.
    keys = sum(2 * lengths[at - 1] * width * width + 2 * width * width for at in method.stages(geometry))
    assert counted(tiny, method) == pytest.approx(keys, rel=2e-2)


def test_distances_are_counted_as_products():
    left, right = torch.randn(2, 40, 7), torch.randn(2, 30, 7)
    for mode in ("donot_use_mm_for_euclid_dist", "use_mm_for_euclid_dist"):
        with own_flops() as spent:
            torch.cdist(left, right, compute_mode=mode)
        assert spent() == 2 * 2 * 40 * 30 * 7


@pytest.mark.parametrize("product", [torch.matmul, torch.mv, torch.nn.functional.linear, lambda x, w: (x @ w[:, None])[:, 0]])
def test_scores_by_a_vector_are_counted_however_they_are_written(product):
    features, vector = torch.randn(40, 7), torch.randn(7)
    with own_flops() as spent:
        product(features, vector)
    assert spent() == 2 * 40 * 7


def test_every_method_has_a_figure(run):
    code, out, err = run("flops", "methods=all", "model=llava-tiny", "tokens=[144]", "own=true", "--json")
    rows = json.loads(out)
    assert code == 0
    # An image has no frames to compare.
    assert {row["method"] for row in rows} == {name for name in names("method") if "frames" not in reducer(name).needs}
    assert all("needs the frames of a video" in line for line in err.splitlines())
    for row in rows:
        kind = reducer(row["method"])
        assert isinstance(row["reducer"], int)
        assert row["total"] == sum(row[part] for part in ("vision", "projector", "reducer", "llm_prefill"))
        if kind.prompt_aware and kind.site != "layers" and not kind.free:
            assert row["reducer"] > 0
        if kind.site == "tower":
            assert row["reducer"] > 0
        if kind.free or kind.site == "pixels":
            assert row["reducer"] == 0


def test_what_a_model_cannot_have_is_left_out_with_a_word(run):
    code, out, err = run("flops", "methods=[vtw,fastv]", "model=llava-1.5-7b", "tokens=[64]", "--json")
    assert code == 0
    assert [row["method"] for row in json.loads(out)] == ["fastv"]
    assert "skipped: budget=64 of method vtw is out of reach" in err


def test_a_method_that_a_model_cannot_have_is_skipped_once(run):
    code, _, err = run("flops", "methods=[dycoke,uniform]", "model=llava-1.5-7b", "tokens=[64,32]", "--json")
    assert code == 0
    assert err.count("skipped: method dycoke needs the frames of a video") == 1


def test_several_models_and_prompts(run):
    code, out, _ = run("flops", "models=[llava-tiny,llava-1.5-7b]", "tokens=[576,64]", "text=[40,60]", "--json")
    assert code == 0
    told = [(row["model"], row["text"], row["tokens"]) for row in json.loads(out)]
    assert told == [(m, t, n) for m in ("llava-tiny", "llava-1.5-7b") for t in (40, 60) for n in (576, 64)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["own=maybe"], "neither true nor false"),
        (["methods=[fastw]"], "did you mean fastv"),
        (["methods=all", "method=par"], "leave one of them out"),
        (["methods=all", "budget=64"], "leave one of them out"),
        (["models=all", "model.path=/nowhere"], "leave one of them out"),
        (["methods=all", "tokens=[0]"], "tokens"),
        (["method=none", "tokens=64"], "drops nothing"),
        (
            ["method=trim", "tokens=64", "own=true", "model=llava-1.5-7b", "~model.geometry.clip"],
            "set model.geometry.clip",
        ),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    code, _, err = run("flops", *words)
    assert code == 2
    assert said in err.strip().splitlines()[-1]


class TorchsCounter(FlopCounterMode):
    """Torch's own, in the place of ours."""

    def __init__(self) -> None:
        super().__init__(display=False, custom_mapping=counting._MORE)

    @property
    def flops(self) -> int:
        return self.get_total_flops()


@pytest.mark.parametrize(
    "name", ["par", "mmtok", "cdpruner", "recoverable", "prunesid", "tome", "flowcut", "dart", "pact", "sparsevlm"]
)
def test_the_count_is_that_of_torchs_counter(adapter, row, name, monkeypatch):
    one = sample(adapter, row, max_new_tokens=1)
    ours = Engine(adapter, within_reach(name, adapter.geometry)).answer([one])[0].ledger.reducer_flops
    monkeypatch.setattr(counting, "_Counter", TorchsCounter)
    theirs = Engine(adapter, within_reach(name, adapter.geometry)).answer([one])[0].ledger.reducer_flops
    assert ours == theirs > 0


def test_operations_that_are_made_of_others_are_counted_by_their_parts():
    one, other = torch.rand(4, 5, 6), torch.rand(4, 6, 7)
    layer = torch.nn.MultiheadAttention(6, 2, batch_first=True)

    def work() -> None:
        torch.einsum("bij,bjk->bik", one, other)
        layer(one, one, one)
        torch.nn.functional.conv2d(torch.rand(1, 1, 9, 9), torch.rand(2, 1, 3, 3))
        torch.cdist(one, one)

    with torch.inference_mode(), own_flops() as spent, TorchsCounter() as counter:
        work()
    assert spent() == counter.flops > 0


def test_a_selection_with_branches_is_counted_too():
    matrix = torch.rand(4, 4)
    with torch.inference_mode(), own_flops() as spent:
        found = torch.cond(torch.tensor(True), lambda x: x @ x, lambda x: x + 1, (matrix,))
    assert torch.equal(found, matrix @ matrix)
    assert spent() == 2 * 4**3
