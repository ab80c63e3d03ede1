"""Training of an adapter: what is merged is what was trained, and an interrupted training ends at the same bits."""

from __future__ import annotations

import argparse
import copy
import importlib
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from tiny.adaptation import Adaptation
from tiny.adapted_stage import AdaptedTrainer
from tiny.controls import CONTROLS, control_recipe
from tiny.loop import Pace, run_stage
from tiny.reducer_recipes import recipe_of
from tiny.reducer_stage import STAGE
from tiny.vision_stage import TRAIN_SEEDS, draw_picture, normalise

SHORT = replace(STAGE, steps=2, batch=2, questions=2, warmup=1)
ABOUT = {"label": "random-8", "model": "llava-tiny"}


def trainer(adapter, name="random", seed=0):
    recipe = recipe_of(name) if name == "vistog" else control_recipe(name)
    method = recipe.build(name, {}, 8)
    made = AdaptedTrainer(adapter, method, SHORT, seed, recipe.terms)
    made.reader.precision = torch.float32
    return made


def total(losses):
    return torch.stack([loss for name, loss in losses.items() if not name.startswith("_")]).sum()


def test_what_is_merged_is_what_was_trained(adapter, settings, folder):
    made = trainer(adapter)
    with torch.no_grad():
        for parameter in made.adaptation.parameters():
            # As in the file.
            parameter.copy_((parameter + 0.05 * torch.randn_like(parameter)).half())
    file = made.write(folder / "a.safetensors", {**ABOUT, "base": adapter.fingerprint})
    merged = ModelAdapter.load({**settings, "adapter": str(file.path)})
    pixels = normalise([draw_picture(TRAIN_SEEDS[0], SHORT).pixels])
    ids = torch.arange(5, 25)[None]

    def seen(loaded):
        visual = loaded.project(loaded.encode(pixels).features)
        return loaded.model(inputs_embeds=torch.cat([visual, loaded.embed(ids)], 1)).logits

    with torch.no_grad():
        before = seen(adapter)
        with made.changed():
            trained = seen(adapter)
        found = seen(merged)
        assert torch.equal(seen(adapter), before)
    assert (trained - before).abs().max() > 1
    assert (found - trained).abs().max() < 2e-3 * trained.abs().max()


def test_an_interrupted_training_ends_at_the_same_weights(adapter, folder, monkeypatch):
    def trained(place, **options):
        place.mkdir(exist_ok=True)
        made = trainer(adapter, "vistog")
        run_stage(made, place, **options)
        return made.state_dict()

    whole, takes = trained(folder / "whole"), AdaptedTrainer.losses

    def killed(self, step):
        if step == 1:
            raise KeyboardInterrupt
        return takes(self, step)

    monkeypatch.setattr(AdaptedTrainer, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(folder / "parts", pace=Pace(save_every_s=-1.0))
    monkeypatch.setattr(AdaptedTrainer, "losses", takes)
    parts, start = trained(folder / "parts"), trainer(adapter, "vistog").state_dict()
    assert whole.keys() == parts.keys() == start.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    same = {name for name in whole if torch.equal(whole[name], start[name])}
    assert {name for name in same if name.startswith("adaptation.")} == set()
    assert any(name.startswith("module.") and name not in same for name in whole)


def test_every_control_trains_the_llm_and_the_projector_by_its_own_choice(adapter):
    """With the same images, questions and LoRA, whatever the method is, so answers differ by the tokens alone."""
    answers = set()
    for name in CONTROLS:
        made = trainer(adapter, name)
        drawn = made.reader.draw(np.random.default_rng([0, 0, 11])).asked
        assert {parameter.partition(".")[0] for parameter, _ in made.named_parameters()} == {"adaptation"}
        losses = made.losses(0)
        assert {"answer", "named"} <= losses.keys()
        total(losses).backward()
        # A changes once B is no longer zero.
        moved = {one: parameter.grad.any().item() for one, parameter in made.adaptation.named_parameters()}
        assert all(moved[one] for one in moved if not one.endswith(".A")), name
        assert not any(moved[one] for one in moved if one.endswith(".A")), name
        assert all(parameter.grad is None for parameter in adapter.model.parameters())
        answers.add(round(float(losses["answer"].detach()), 5))
        assert drawn == trainer(adapter).reader.draw(np.random.default_rng([0, 0, 11])).asked
    assert len(answers) == len(CONTROLS)


def test_random_tokens_are_drawn_anew_in_each_step(adapter, monkeypatch):
    made, kept = trainer(adapter), []
    learn = type(made.reducer).learn

    def noted(self, module, features, probes, generator):
        kept.append(tuple(probes.seeds))
        return learn(self, module, features, probes, generator)

    monkeypatch.setattr(type(made.reducer), "learn", noted)
    for step in (0, 1, 0):
        made.losses(step)
    assert kept[0] == kept[2] != kept[1]
    assert len(set(kept[0])) == SHORT.batch


def test_rates_are_those_of_the_parts(adapter, folder):
    made = trainer(adapter, "vistog")
    start = copy.deepcopy(made.state_dict())
    made.stage = replace(SHORT, steps=1)
    run_stage(made, folder)
    moved = {name: float((value - start[name]).abs().max()) for name, value in made.state_dict().items()}
    # The first step of Adam moves each weight by its rate.
    for part, rate in (("module.query.weight", 1e-3), ("adaptation.changes.0.weight", 1e-4), ("adaptation.changes.2.B", 2e-4)):
        assert moved[part] == pytest.approx(rate, rel=0.2), part


def test_what_cannot_be_trained_is_said():
    for name, said in (
        ("fastv", "does not choose tokens before the LLM: use one of random, uniform"),
        ("trim", "method trim looks at the question"),
        ("randm", "did you mean random"),
    ):
        with pytest.raises(ParbenchError, match=said):
            control_recipe(name)
    with pytest.raises(ParbenchError, match="unknown field of method random 'budgt'"):
        control_recipe("random").build("random", {"budgt": "1"}, 64)
    with pytest.raises(ParbenchError, match="positions=keep has no training"):
        control_recipe("random").build("random", {"positions": "keep"}, 64)
    with pytest.raises(ParbenchError, match=r"adapted trains model\.language_model\.layers, which this model does not have"):
        Adaptation(torch.nn.Linear(2, 2), 1e-3)


def test_the_plan_trains_all_alike_and_evaluates_them():
    """Each training of the plan is one that the training script takes, and each adapter one that it writes."""
    plan = importlib.import_module("train_controls")
    given = argparse.Namespace(
        methods=["vistog"],
        model="llava-tiny",
        budget=64,
        budgets=[64, 16],
        steps=5,
        questions=2,
        seeds=[0, 1],
        split="val",
        results=Path("runs"),
    )
    lines = [shlex.split(line) for line in plan.plan(given) if not line.startswith("#")]
    trainings, sweeps = ([line for line in lines if line[0] == head] for head in ("python", "parbench"))
    assert len(trainings) == len(sweeps) == 2 * (len(CONTROLS) + 1)
    assert {tuple(line[line.index("--model") :]) for line in trainings} == {
        ("--model", "llava-tiny", "--steps", "5", "--questions", "2", "--budget", "64")
    }
    script = importlib.import_module("train_reducer")
    written = set()
    for line in trainings:
        given = script.arguments(line[2:])
        method = script.recipe_for(given).build(given.method[0], {}, 64)
        written.add(str(script.adapter_path(given, method)))
    assert written == {line[6].removeprefix("model.adapter=") for line in sweeps}
    assert "methods=[random,par,divprune,visionzip]" in sweeps[0]
    given.methods = ["sparsek"]
    with pytest.raises(ParbenchError, match="unknown learned method with a conf/method 'sparsek'"):
        list(plan.plan(argparse.Namespace(**{**vars(given), "budgets": [64], "seeds": [0], "split": "val"})))
