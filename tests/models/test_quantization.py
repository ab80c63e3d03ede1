"""Weights in 8 and 4 bits: they compute for real, and stand beside whole ones in one table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from helpers import reducer, refused, sample
from parbench.compute.flops import costs
from parbench.engine.engine import Engine
from parbench.models.adapter import ModelAdapter
from parbench.models.quantization import check_quantization

needs_bitsandbytes = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
# Attention and keys of the tower, text beside patches, projector, attention, merging and masks in the LLM, merged tokens un-merged.
LOOKING = ("par", "trim", "tome", "fastv", "sparsevlm", "topv", "yopo", "dymu")
BEFORE = ("par", "trim", "tome")


def kept(adapter, scenes, name: str) -> list:
    answers = Engine(adapter, reducer(name)).answer([sample(adapter, scenes[n], n, max_new_tokens=2) for n in (0,)])
    assert not any(answer.error for answer in answers), (name, answers[0].error)
    return [[one.patches for one in answer.kept] for answer in answers]


@pytest.mark.model
@needs_bitsandbytes
def test_methods_look_into_quantised_models(settings, scenes):
    whole = ModelAdapter.load({**settings, "dtype": "bfloat16"})
    seen = {name: kept(whole, scenes, name) for name in BEFORE}
    size = whole.model.get_memory_footprint()
    for kind, most in (("bnb-8bit", 0.75), ("bnb-4bit", 0.6)):
        small = ModelAdapter.load({**settings, "dtype": "bfloat16", "quantization": kind})
        assert small.model.get_memory_footprint() < most * size
        quantised = {
            name
            for name, part in small.model.named_modules()
            if type(part).__name__.startswith("Linear") and type(part).__module__.startswith("bitsandbytes")
        }
        assert len(quantised) == 7 * small.geometry.layers
        assert all(name.startswith("model.language_model.layers.") for name in quantised)
        found = {name: kept(small, scenes, name) for name in LOOKING}
        # The tower and the projector are whole.
        assert {name: found[name] for name in BEFORE} == seen
        assert costs(small.model.config) == costs(whole.model.config)


@needs_bitsandbytes
def test_a_sweep_over_quantisations_is_one_table(run, folder):
    words = ["methods=[random]", "budgets=[64]", "controls=[]", "limit=6", "model.dtype=float16", "results_dir=runs"]
    code, out, err = run("sweep", *words, "model.quantization=null,bnb-8bit,bnb-4bit", "engine.cache_mb=0")
    assert code == 0, err
    assert out.count("llava-tiny on scenes") == 2  # one table of two views
    for row in ("none", "none bnb-8bit", "none bnb-4bit", "random @64", "random @64 bnb-8bit", "random @64 bnb-4bit"):
        assert sum(line.split("  ")[0].strip() == row or line.strip().startswith(f"{row} ") for line in out.splitlines()), row
    runs = [json.loads(path.read_text()) for path in Path("runs").glob("*/metrics.json")]
    assert sorted({one["model"] for one in runs}) == ["llava-tiny", "llava-tiny bnb-4bit", "llava-tiny bnb-8bit"]
    code, out, err = run("table", "runs", "--format=csv")
    assert code == 0, err
    rows = out.splitlines()
    assert len(rows) == 7
    assert "delta_none_low" in rows[0]
    code, out, _ = run("table", "runs", "quantization=bnb-4bit")
    assert code == 0
    assert "llava-tiny bnb-4bit on scenes" in out
    # A figure joins runs of one method by a line.
    assert "differ in quantization (bnb-4bit in 2, bnb-8bit in 2, null in 2)" in refused(run, "figures", "runs", "out=figures")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["model.quantization=bnb-4bits", "model.dtype=float16"],
            "unknown model.quantization 'bnb-4bits': did you mean bnb-4bit",
        ),
        (["model.quantization=bnb-4bit"], "computes in half precision: set model.dtype=float16"),
        (
            ["model.quantization=bnb-8bit", "model.dtype=float16", "model.device_map={model:disk,lm_head:disk}"],
            "cannot offload weights to memory or disk",
        ),
    ],
)
def test_what_cannot_be_quantised_is_said(run, words, said):
    assert said in refused(run, "eval", "method=none", "limit=2", *words)


def test_a_missing_package_and_random_weights_are_said(run, monkeypatch, settings):
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "bitsandbytes" else found(name, *rest))
    said = refused(run, "eval", "method=none", "limit=2", "model.quantization=bnb-8bit", "model.dtype=float16")
    assert "needs bitsandbytes" in said
    with pytest.raises(Exception, match=r"leave it out with model\.weights=random"):
        check_quantization({**settings, "weights": "random", "quantization": "bnb-8bit", "dtype": "float16"})
