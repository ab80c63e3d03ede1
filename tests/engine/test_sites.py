"""A site is one module: this one adds the KV cache, and engine, predictions, benchmark and calibration work with it."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from omegaconf import OmegaConf

import parbench
from helpers import METHODS, reducer, sample
from parbench.bench.batch import read_batch
from parbench.bench.clock import HostClock, Laps
from parbench.bench.instrument import timed_engine
from parbench.bench.passes import run_pass
from parbench.compute.method_overhead import OwnWork
from parbench.compute.predict import Prompt, predict
from parbench.config import compose_config
from parbench.engine.engine import Engine
from parbench.engine.hooks.base import LlmHooks
from parbench.engine.sites import Site, site_of
from parbench.errors import ParbenchError
from parbench.harness.token_counter import KeptCounter
from parbench.reducers import Reducer


@dataclasses.dataclass
class CacheReducer(Reducer):
    """Silences all but the first visual tokens in the KV cache, once the prompt has run."""

    title = "first-cached"
    site = "kv-cache"
    free = True

    def silenced(self, image: torch.Tensor, count: int) -> torch.Tensor:
        """[B, S] the visual tokens of rows with one image that later tokens get nothing from."""
        visual = image >= 0
        return visual & (visual.cumsum(1) > count)


class CacheHooks(LlmHooks):
    """Zeroes values in the cache before the first token that is decoded."""

    def __init__(self, adapter, rows, silenced):
        super().__init__(rows)
        self.adapter, self.silenced, self.done = adapter, silenced, False

    def handles(self):
        return [self.adapter.language.layers[0].register_forward_pre_hook(self.silence, with_kwargs=True)]

    def leave(self, stay):
        self.silenced = self.silenced[stay]

    def silence(self, _layer, _args, kwargs):
        cache = kwargs["past_key_values"]
        if self.done or not cache.get_seq_length():
            return
        self.done = True
        for layer in cache.layers:
            layer.values = layer.values.masked_fill(self.silenced[:, None, :, None], 0.0)


class CacheSite(Site[CacheReducer]):
    """In the KV cache, between prefill and decoding."""

    name: ClassVar[str] = "kv-cache"
    overhead_functions = ("silenced",)

    def hooks(self, adapter, rows, _trace, _place=None):
        return CacheHooks(adapter, rows, self.reducer.silenced(rows.image, self.reducer.count(self.geometry)))

    def check_reduced(self, reduction, geometry):
        """Nothing is dropped before decoding."""

    def plan(self, tokens):
        geometry = self.geometry
        whole = [geometry.patches] * geometry.layers
        return dataclasses.replace(super().plan(tokens), projected=geometry.patches, visual=whole)


@pytest.fixture
def endless(adapter, monkeypatch):
    """Nothing ends an answer before its limit."""
    monkeypatch.setattr(type(adapter), "end_tokens", property(lambda _self: set()))


@pytest.fixture
def questions(adapter, scenes):
    """Four questions on two images, of unequal limits."""
    return [sample(adapter, scenes[number], number, max_new_tokens=limit) for number, limit in ((0, 4), (1, 2), (10, 4), (11, 4))]


def method(budget):
    return CacheReducer(budget=budget, name="first-cached")


@pytest.mark.usefixtures("endless")
def test_the_engine_runs_it(adapter, questions):
    hooks = [len(layer._forward_pre_hooks) for layer in adapter.language.layers]
    answers = Engine(adapter, method(8)).answer(questions)
    assert not any(answer.error for answer in answers)
    assert [answer.ledger.generated for answer in answers] == [4, 2, 4, 4]
    assert all(answer.ledger.visual == (adapter.geometry.patches,) * adapter.geometry.layers for answer in answers)
    for question, answer in zip(questions, answers, strict=True):
        (alone,) = Engine(adapter, method(8), share=False).answer([question])
        assert (alone.text, alone.kept, alone.ledger) == (answer.text, answer.kept, answer.ledger)
    assert [len(layer._forward_pre_hooks) for layer in adapter.language.layers] == hooks


@pytest.mark.usefixtures("endless")
def test_it_acts_and_keeping_everything_changes_nothing(adapter, questions):
    plain, whole, little = (
        Engine(adapter, one, share=False).answer(questions)
        for one in (reducer("none"), method(adapter.geometry.patches), method(1))
    )
    for one, other in zip(plain, whole, strict=True):
        assert (one.text, one.margin, one.kept) == (other.text, other.margin, other.kept)
    assert any(one.margin != other.margin for one, other in zip(plain, little, strict=True))


def test_its_flops_are_predicted(adapter, questions):
    model = OmegaConf.to_container(compose_config(["model=llava-tiny"]).model, resolve=True)
    (answer,) = Engine(adapter, method(8)).answer(questions[:1])
    text = answer.ledger.layers[0] - adapter.geometry.patches
    ours = predict(model, method(8), None, Prompt(text), "before_projector")
    none = predict(model, reducer("none"), None, Prompt(text), "before_projector")
    assert ours["tokens"] == 8
    assert (ours["llm_prefill"], ours["projector"]) == (none["llm_prefill"], none["projector"])
    own = OwnWork(model)
    assert own(method(8), site_of(method(8), adapter.geometry).plan(8), 20, 35) == 0


def test_the_benchmark_times_it(adapter, questions):
    laps = Laps(HostClock())
    found = run_pass(timed_engine(adapter, method(8), laps), read_batch(adapter, questions[:2]), laps, 2)
    assert found.seconds["prefill"] > 0
    assert found.seconds["selection"] > 0


def test_its_tokens_are_counted_as_in_calibration(adapter, scenes):
    counter = KeptCounter(adapter, [(scenes[0]["image"].convert("RGB"), ["What is it?"])])
    engine = Engine(adapter, method(8))
    assert counter.counts(engine) == [adapter.geometry.patches]


def test_a_site_that_nothing_defines_is_refused(adapter):
    class Lost(CacheReducer):
        site = "nowhere"

    with pytest.raises(ParbenchError, match="has site nowhere, which is not defined"):
        Engine(adapter, Lost(budget=8, name="lost"))


@pytest.mark.parametrize("name", METHODS)
def test_each_site_finds_what_its_methods_promise(adapter, name):
    site = site_of(reducer(name), adapter.geometry)
    assert site.name == reducer(name).site
    # The benchmark times a method through these functions.
    assert all(callable(getattr(site.reducer, function)) for function in site.overhead_functions)
    assert site.shares_prefixes or site.name in ("layers", "mask", "feedforward") or site.needs_owners


def test_only_sites_know_kinds():
    """Nobody else asks what kind a method is."""
    kinds = {"PixelReducer", "TowerReducer", "TokenReducer", "LayerReducer", "MaskReducer", "FeedForwardReducer", "KeyReducer"}
    found = []
    for path in sorted(Path(parbench.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                named = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
                found += [f"{path.name}:{node.lineno}"] if named & kinds else []
    assert not found
