"""The benchmark: what is measured is what evaluations run, counts are exact, files go on. No test looks at how long anything
takes.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from omegaconf import OmegaConf

from helpers import reducer, refused
from parbench.bench.batch import read_batch, scenes_samples
from parbench.bench.clock import HostClock, Laps
from parbench.bench.instrument import timed_engine
from parbench.bench.measure import LAPS, Effort, Measurer, speedups
from parbench.bench.passes import run_pass
from parbench.bench.peak_memory import watch_peak
from parbench.bench.prepare import ready
from parbench.bench.quartiles import ratio, spread
from parbench.bench.store import BenchFile
from parbench.compute.flops import costs, sample_flops
from parbench.config import compose_config
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter

_QUICK = ("batch=2", "repeats=1", "warmup=0", "new_tokens=2", "out=bench.json")
_SMALL = {
    "vision_feature_layer": -2,
    "vision": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 336,
        "patch_size": 14,
        "projection_dim": 16,
    },
    "text": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 272,
        "max_position_embeddings": 2048,
    },
    "clip": {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 272,
        "max_position_embeddings": 77,
        "projection_dim": 16,
    },
}


@pytest.fixture(scope="module")
def batch(adapter):
    return read_batch(adapter, scenes_samples(adapter, 2))


def small(**fields) -> ModelAdapter:
    settings = OmegaConf.to_container(compose_config(["model=llava-1.5-7b"]).model, resolve=True)
    changed = {"geometry": _SMALL, "weights": "random", "device": "cpu", "dtype": "float32", "name": "small", **fields}
    return ModelAdapter.load({**settings, **changed})


# What a pass does


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("none", {}),
        ("uniform", {}),
        ("par", {}),
        ("downsample", {}),
        ("tome", {}),
        ("fastv", {}),
        ("fastv", {"variant": "in_place"}),
        ("fastv", {"raters": "stop"}),
        ("dymu", {"unmerge": True}),
        ("interaction", {}),
    ],
)
def test_a_pass_answers_what_the_engine_answers(adapter, batch, name, fields):
    method = reducer(name, None if name == "none" else 64, **fields)
    laps = Laps(HostClock())
    found = run_pass(timed_engine(adapter, method, laps), batch, laps, 4)
    samples = [dataclasses.replace(sample, max_new_tokens=4) for sample in batch.samples]
    for row, answer in zip(found.ids.tolist(), Engine(adapter, method, share=False).answer(samples), strict=True):
        ends = [place for place, token in enumerate(row) if token in adapter.end_tokens]
        assert adapter.decode(row[: min(ends, default=len(row))]) == answer.text
    assert found.ids.shape == (2, 4)


def test_the_first_token_is_the_sum_of_what_leads_to_it(adapter, batch):
    laps = Laps(HostClock())
    seconds = run_pass(timed_engine(adapter, reducer("fastv", 64), laps), batch, laps, 2).seconds
    parts = seconds["vision"] + seconds["projector"] + seconds["assembly"] + seconds["prefill"]
    assert parts <= seconds["ttft"]
    assert 0 < seconds["selection"] < seconds["prefill"]


def test_the_cache_holds_what_the_layers_saw(adapter):
    """Keys and values of every token, padding included: heads x width x 2 x bytes; a method in the LLM holds less further up."""
    one = read_batch(adapter, scenes_samples(adapter, 1))
    text = adapter.model.config.text_config
    each = text.num_key_value_heads * text.head_dim * 2 * 4
    laps = Laps(HostClock())
    for name, budget in (("none", None), ("fastv", 96), ("uniform", 64), ("pyramiddrop", 200), ("skip-vision", 64)):
        method = reducer(name, budget)
        (answer,) = Engine(adapter, method, share=False).answer(one.samples)
        held = run_pass(timed_engine(adapter, method, laps), one, laps, 1).cache
        assert held == [tokens * each for tokens in answer.ledger.fed or answer.ledger.layers]
        assert (len(set(held)) > 1) == (name in ("fastv", "pyramiddrop"))


def test_texts_cost_their_time_in_every_pass(adapter, batch):
    laps = Laps(HostClock())
    engine = timed_engine(adapter, reducer("trim", 64), laps)
    read = []
    with adapter.clip_space.clip.text_model.register_forward_hook(lambda *_: read.append(1)):
        run_pass(engine, batch, laps, 1)
        once = len(read)
        run_pass(engine, batch, laps, 1)
    assert len(read) == 2 * once > 0


def test_nothing_is_left_behind(adapter, batch):
    from torch.utils.flop_counter import FlopCounterMode

    method = reducer("fastv", 64)
    laps = Laps(HostClock())
    before = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in adapter.model.modules()]
    run_pass(timed_engine(adapter, method, laps), batch, laps, 1)
    assert [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in adapter.model.modules()] == before
    # The method given is not the one that is timed.
    assert not any(name in vars(method) for name in ("choose", "reduce"))
    with FlopCounterMode(display=False) as counter:
        adapter.project(torch.zeros(1, 1, adapter.model.config.vision_config.hidden_size))
    assert counter.get_total_flops() > 0


class Counting:
    """A clock whose every look is one second later."""

    def __init__(self):
        self.time = 0

    def now(self):
        self.time += 1
        return self.time

    def settle(self):
        pass

    def between(self, begin, end):
        return float(end - begin)


def test_laps_add_up_and_do_not_count_twice():
    laps = Laps(Counting())
    for _ in range(2):
        with laps.lap("outer"), laps.lap("inner"):
            pass
    with laps.lap("outer"), laps.lap("outer"):
        pass
    # Outer: 3 s twice, and once 2 s, the inner one of which counts no more.
    assert laps.seconds() == {"outer": 8.0, "inner": 2.0}
    laps.restart()
    assert laps.seconds() == {}


def test_the_peak_is_what_was_taken_meanwhile():
    with watch_peak(torch.device("cpu")) as peak:
        block = torch.ones(64 * 2**20 // 4)
        del block
    if peak.over is None:
        pytest.skip("this system does not tell a process's peak")
    assert 60 * 2**20 < peak.over < 200 * 2**20


# Figures


def test_spread_and_paired_ratios():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.5, "high": 2.5, "values": [3.0, 1.0, 2.0]}
    assert spread([4.0])["low"] == 4.0
    # The machine is half as fast in the second pair: the ratio does not see it.
    assert ratio([4.0, 8.0], [2.0, 4.0])["values"] == [2.0, 2.0]


def test_speedups_are_by_stage(adapter, batch):
    row = Measurer(adapter, batch, Effort(repeats=2, warmup=0, new_tokens=2)).row(reducer("uniform", 64))
    assert set(row["measured"]["seconds"]) == set(LAPS)
    assert row["tokens_kept"] == {"mean": 64.0, "min": 64.0, "max": 64.0}
    flops, base = row["measured"]["flops"], row["none"]["flops"]
    assert row["speedup"]["prefill"]["predicted"] == base["llm_prefill"] / flops["llm_prefill"]
    first = ("vision", "projector", "reducer", "llm_prefill")
    assert row["speedup"]["ttft"]["predicted"] == sum(base[p] for p in first) / sum(flops[p] for p in first)
    # The batch's sum, not one sample's.
    answers = Engine(adapter, reducer("none")).answer(batch.samples)
    alone = [sample_flops(costs(adapter.model.config), answer.ledger)["llm_prefill"] for answer in answers]
    assert base["llm_prefill"] == sum(alone)
    one = row["speedup"]["prefill"]
    assert one["measured_over_predicted"] == pytest.approx(one["median"] / one["predicted"])
    figures = {"flops": {**flops, "decode": 0}, "seconds": row["measured"]["seconds"]}
    assert "decode" not in speedups(figures, row["none"])


# Random weights


@pytest.mark.model
def test_random_weights_have_the_sizes_asked_for():
    adapter = small()
    assert adapter.fingerprint == "random"
    assert (adapter.geometry.layers, adapter.geometry.patches) == (8, 576)
    assert adapter.model.config.text_config.hidden_size == 64
    assert small(llm_layers=1).geometry.layers == 1
    assert small(dtype="bfloat16").dtype is torch.bfloat16
    # A model can be made again.
    assert torch.equal(adapter.model.lm_head.weight, small().model.lm_head.weight)
    assert adapter.clip_space.text(["a red square"])[0].shape == (1, 16)


@pytest.mark.model
def test_random_weights_of_a_checkpoints_sizes(settings):
    adapter = ModelAdapter.load({**settings, "weights": "random", "llm_layers": 2})
    trained = ModelAdapter.load(settings)
    assert adapter.geometry.layers == 2
    assert adapter.model.lm_head.weight.shape == trained.model.lm_head.weight.shape
    assert not torch.equal(adapter.model.lm_head.weight, trained.model.lm_head.weight)
    assert adapter.clip_space.clip.text_projection.weight.shape == trained.clip_space.clip.text_projection.weight.shape


@pytest.mark.model
@pytest.mark.parametrize("name", ["par", "dymu", "fastv"])
def test_methods_meet_their_budget_on_random_weights(name):
    adapter = small()
    two = read_batch(adapter, scenes_samples(adapter, 2))
    method = ready(adapter, compose_config([f"method={name}"]).method, 200, two)
    kept = Measurer(adapter, two, Effort(repeats=1, warmup=0, new_tokens=1)).work(method).kept
    assert sum(kept) / 2 == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize("command", ["eval", "sweep", "calibrate", "show"])
def test_random_weights_have_no_accuracy(run, command):
    assert "no accuracy" in refused(run, command, "model.weights=random")


@pytest.mark.model
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weights": "none"}, "use checkpoint or random"),
        ({"weights": "checkpoint", "llm_layers": 2}, "use it with model.weights=random"),
        ({"llm_layers": 9}, "use 1 to 8"),
        ({"geometry": {**_SMALL, "vision": {**_SMALL["vision"], "image_size": 224}}}, "336"),
        ({"geometry": {**_SMALL, "text": {**_SMALL["text"], "vocab_size": 100}}}, "vocab_size"),
    ],
)
def test_impossible_random_models(fields, said):
    with pytest.raises(ParbenchError, match=said):
        small(**fields)


# The command


def test_the_command_writes_what_it_measured(run, folder):
    code, out, err = run("bench", "methods=[uniform,vtw]", "budgets=[64]", *_QUICK)
    assert code == 0, err
    content = json.loads((folder / "bench.json").read_text())
    none, uniform, vtw = content["rows"]
    assert set(content) == {"settings", "environment", "commands", "batches", "rows"}
    assert content["environment"]["device"]
    assert content["settings"]["new_tokens"] == 2
    assert len(content["batches"]["2"]["text_tokens"]) == 2
    assert (none["method"], none["budget"], uniform["budget"], uniform["batch"]) == ("none", None, 64, 2)
    keys = {"seconds", "decode_tokens_per_second", "answers_per_second", "memory_bytes", "kv_cache_bytes", "flops"}
    assert set(uniform["measured"]) == set(uniform["none"]) == keys | {"kv_cache_bytes_by_layer"}
    assert set(uniform["speedup"]) == {"prefill", "ttft", "decode", "total"}
    assert uniform["speedup"]["prefill"]["predicted"] > 5
    assert "out of reach" in vtw["refused"]
    assert "uniform @64" in out
    assert (folder / "bench.png").stat().st_size > 1000


def test_the_same_command_goes_on(run, folder):
    run("bench", "methods=[uniform]", *_QUICK)
    first = json.loads((folder / "bench.json").read_text())
    code, _, err = run("bench", "methods=[uniform,random]", *_QUICK)
    assert code == 0
    assert err.count("measured before") == 2
    second = json.loads((folder / "bench.json").read_text())
    assert second["rows"][: len(first["rows"])] == first["rows"]
    assert [row["method"] for row in second["rows"]] == ["none", "uniform", "random"]
    assert len(second["commands"]) == 2
    assert "repeats=1, not 2" in refused(
        run, "bench", "methods=[uniform]", *(word.replace("repeats=1", "repeats=2") for word in _QUICK)
    )


def test_a_file_of_something_else_is_left_alone(folder):
    (folder / "notes.json").write_text('{"mine": 1}')
    with pytest.raises(ParbenchError, match="is not a file of parbench bench"):
        BenchFile(folder / "notes.json", {"settings": {}, "environment": {}})
    assert (folder / "notes.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["methods=[fastw]"], "did you mean fastv"),
        (["budgets=[many]"], "many is not possible"),
        (["batch=0"], "batch=0"),
        (["batch=[1,1000]"], "images of scenes"),
        (["kernel=eager"], "known are auto"),
        (["method=par"], "cannot be combined with bench"),
        (["dataset=pope"], "cannot be combined with bench"),
        (["repeats=0"], "repeats=0"),
        (["model.llm_layers=1"], "use it with model.weights=random"),
    ],
)
def test_bad_input_is_one_sentence(run, words, said):
    assert said in refused(run, "bench", *words)
