"""The benchmark times models of every family: the same tokens as the engine gives."""

from __future__ import annotations

import pytest

import zoo
from parbench.bench.batch import read_batch
from parbench.bench.clock import HostClock, Laps
from parbench.bench.instrument import timed_engine
from parbench.bench.passes import run_pass
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.models.adapter import ModelAdapter
from parbench.reducers.divprune import DivPrune
from parbench.reducers.fastv import FastV


@pytest.mark.parametrize("method", [DivPrune(name="divprune", budget=0.5), FastV(name="fastv", layer=2)], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["llava_next", "qwen3_vl", "gemma3"])
def test_a_timed_pass_gives_what_the_engine_gives(name, method):
    model, processor, mark = zoo.FAMILIES[name]()
    adapter = ModelAdapter(model, processor, name=name)
    text = f"USER: {mark}\nIs there a red circle? ASSISTANT:"
    images = [zoo.image(112, 84, 1), zoo.image(60, 130, 2)]
    samples = [Sample(str(n), lambda _: text, "?", lambda image=image: [image], str(n), 4) for n, image in enumerate(images)]
    engine = timed_engine(adapter, method, laps := Laps(HostClock()))
    found = run_pass(engine, read_batch(adapter, samples), laps, 4)
    answers = Engine(adapter, method, share=False).answer(samples)
    assert [answer.error for answer in answers] == [None, None]
    texts = [adapter.decode(ids[: answer.ledger.generated]) for ids, answer in zip(found.ids.tolist(), answers, strict=True)]
    assert texts == [answer.text for answer in answers]
    assert found.seconds["vision"] > 0
    # Where the connector is part of the tower's run, it has no lap of its own.
    assert "projector" not in found.seconds or not found.seconds["projector"]
