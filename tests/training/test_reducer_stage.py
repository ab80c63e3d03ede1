"""Training of learned reducers: the model stays as it is, and the same command gives the same weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from parbench.reducers.setok import SeTok
from parbench.reducers.skip_vision_ada import SkipVisionAda
from parbench.reducers.sparsek import SparseK
from parbench.reducers.tofc_codec import TofcCodec
from parbench.reducers.vistog import VisToG
from tiny.loop import Pace, run_stage
from tiny.reducer_recipes import RECIPES
from tiny.reducer_stage import STAGE, ReducerTrainer, stage_of, validated

SHORT = replace(STAGE, steps=2, batch=1, questions=1, warmup=1)


class Few(VisToG):
    """Few semantic tokens, and a start without images."""

    training_budgets = (4, 8)

    def new_module(self, width):
        return type(super().new_module(width))(width, 8)


def trainer(adapter, method=None, seed=0):
    made = ReducerTrainer(adapter, method or Few(name="few", budget=8), SHORT, seed)
    made.reader.precision = torch.float32
    return made


def trained(adapter, folder, **options):
    folder.mkdir(exist_ok=True)
    made = trainer(adapter, **options)
    run_stage(made, folder)
    return made.module.state_dict()


def test_an_interrupted_training_ends_at_the_same_weights(adapter, folder, monkeypatch):
    whole = trained(adapter, folder / "whole")
    takes = ReducerTrainer.losses

    def killed(self, step):
        if step == 1:
            raise KeyboardInterrupt
        return takes(self, step)

    (folder / "parts").mkdir()
    monkeypatch.setattr(ReducerTrainer, "losses", killed)
    with pytest.raises(KeyboardInterrupt):
        run_stage(trainer(adapter), folder / "parts", pace=Pace(save_every_s=-1.0))
    monkeypatch.setattr(ReducerTrainer, "losses", takes)
    parts = trained(adapter, folder / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    start = trainer(adapter).module.state_dict()
    changed = {name for name in whole if not torch.equal(whole[name], start[name])}
    # What has been learned, and what it began with.
    assert {"tokens", "query.weight", "value.weight", "mlp.2.weight"} <= changed
    assert "start" not in changed


def test_only_the_module_is_trained(adapter, folder):
    made = trainer(adapter, TofcCodec(name="tofc-codec", budget=8))
    assert {name.partition(".")[0] for name, _ in made.named_parameters()} == {"module"}
    losses = made.losses(0)
    assert {"answer", "bits", "balance"} <= losses.keys()
    torch.stack([loss for name, loss in losses.items() if not name.startswith("_")]).sum().backward()
    assert all(parameter.grad is None for parameter in adapter.model.parameters())
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_every_recipe_trains_its_module_alone(adapter):
    for name, recipe in RECIPES.items():
        made = trainer(adapter, recipe.build(name, {}, 48))
        losses = made.losses(0)
        torch.stack([loss for kind, loss in losses.items() if not kind.startswith("_")]).sum().backward()
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in made.parameters()), name
        assert all(parameter.grad is None for parameter in adapter.model.parameters())


ONES = [SeTok(name="setok", budget=16), SkipVisionAda(name="skip-vision-ada", budget=16), SparseK(name="sparsek", budget=16)]


@pytest.mark.parametrize("method", ONES)
def test_the_same_training_gives_the_same_weights(adapter, folder, method):
    one, same = (trained(adapter, folder / name, method=method) for name in ("one", "same"))
    start = trainer(adapter, method).module.state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], start[name]) for name in one)


def test_answers_do_not_see_skipped_tokens_and_these_have_no_mlp(adapter):
    """In one sequence with its answer, as in evaluation, where the skipped tokens leave the KV cache after prefill."""
    made = trainer(adapter, SkipVisionAda(name="skip-vision-ada", budget=16))
    lesson = made.reader.draw(np.random.default_rng(0))
    turns, unfed = made.reader.turns(lesson.asked), made.reducer.unfed(adapter.geometry)
    visual = torch.randn(1, 16, adapter.model.config.text_config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain, skipping = (made.reader.read(visual, turns, None, unfed=given) for given in (None, unfed))
    first, columns = len(made.reader.prefix), unfed.nonzero().flatten() + len(made.reader.prefix)
    turn = turns[0]
    prompt_end, answer = skipping.start + turn.at + turn.prompt - 1, skipping.start + turn.at + turn.prompt
    assert skipping.allowed[0, prompt_end, columns].all()
    assert not skipping.allowed[0, answer, columns].any()
    fed = (~unfed).nonzero().flatten() + first
    assert skipping.allowed[0, answer, fed].all()
    assert plain.allowed[0, answer, columns].all()
    # The residual stream of a skipped token gets what attention adds alone.
    layer = adapter.model.model.language_model.layers[0]
    added = skipping.states[1] - plain.states[1]
    assert added[0, columns].any(1).all()
    assert torch.equal(skipping.states[1][0, :first], plain.states[1][0, :first])
    assert not layer.mlp._forward_hooks


def test_terms_weigh_further_losses(adapter):
    plain, weighed = (ReducerTrainer(adapter, Few(name="few", budget=8), SHORT, 0, terms) for terms in ({}, {"evenness": 0.5}))
    for made in (plain, weighed):
        made.reader.precision = torch.float32
    one, other = plain.losses(0), weighed.losses(0)
    assert float(other["evenness"].detach()) == pytest.approx(0.5 * float(one["evenness"].detach()))
    assert float(other["_evenness"]) == pytest.approx(float(one["evenness"].detach()))
    assert torch.equal(one["answer"], other["answer"])


def test_validation_is_that_of_evaluation(adapter):
    made = trainer(adapter, TofcCodec(name="tofc-codec", budget=8))
    module = made.module.double().eval()
    found = validated(made, module, 1, (8, 64))
    assert found.keys() == {"val_8", "val_64", "bits_8", "bits_64"}
    assert 0 <= found["val_8"] <= 1
    assert found["bits_8"] < found["bits_64"]


def test_steps_set_the_warm_up(adapter):
    assert stage_of(600).warmup == 30
    assert stage_of(8, 2e-3, 5) == replace(STAGE, steps=8, warmup=2, rate=2e-3, questions=5)


def test_it_starts_from_centres_of_which_the_first_are_centres_too():
    from parbench.ops.kmeans import nested_centres

    points = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 4)))
    few = nested_centres(points, [4], 5, torch.Generator().manual_seed(0))
    more = nested_centres(points, [4, 9], 5, torch.Generator().manual_seed(0))
    assert torch.equal(more[:4], few)
    apart = [torch.cdist(points, centres).amin(1).square().mean() for centres in (few, more)]
    assert apart[1] < 0.8 * apart[0]
    # A mean of its own points.
    own = torch.cdist(points, few).argmin(1)
    assert torch.allclose(few, torch.stack([points[own == number].mean(0) for number in range(4)]), atol=0.5)
