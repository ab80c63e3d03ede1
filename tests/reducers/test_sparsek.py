"""SparseK: soft shares that are all or nothing are evaluation, which is what the engine computes with the weights of a file."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import sample, whole_image
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Visual, build_rows
from parbench.engine.sites import site_of
from parbench.errors import ParbenchError
from parbench.reducers.learned_files import loaded, save, sha256_of
from parbench.reducers.modules.keys import KeyScores
from parbench.reducers.sparsek import SparseK
from parbench.scenes.questions import draw_questions
from tiny.reducer_stage import STAGE, ReducerTrainer
from tiny.vision_stage import draw_picture

pytestmark = pytest.mark.model
BUDGET = 20


def write(path, adapter, **about):
    geometry = adapter.geometry
    module = KeyScores(adapter.model.config.text_config.hidden_size, about.pop("layers", geometry.layers))
    with torch.no_grad():
        module.vectors.copy_(module.vectors.flip(0))
    known = {"base": adapter.fingerprint, "fields": {}, "budgets": [16, 8, 64], "seed": 3, "steps": 2, "model": "llava-tiny"}
    save(module, path, {**known, **about})
    return path


def ready(path, adapter, **fields):
    method = SparseK(name="sparsek", budget=BUDGET, weights=str(path), **fields)
    return method.for_model("llava-tiny", lambda: adapter.fingerprint, adapter.geometry)


@torch.inference_mode()
def test_training_with_all_or_nothing_is_evaluation(adapter, folder):
    """Scores that are far apart give shares of 0 and 1; then training, validation and the engine compute the same."""
    method = ready(write(folder / "own.safetensors", adapter), adapter)
    module = loaded(KeyScores, folder / "own.safetensors", sha256_of(folder / "own.safetensors"), False, "cpu")
    apart = deepcopy(module)
    apart.vectors *= 1e7
    stage = replace(STAGE, batch=1, questions=1)
    made = ReducerTrainer(adapter, method, stage, 0)
    made.reader.precision = torch.float32
    picture = draw_picture(0, stage)
    turns = made.reader.turns([draw_questions(np.random.default_rng(0), picture.scene, 1, dict(stage.emphasis), None)])
    visual = adapter.project(made._encoded([picture]).features)
    given = (method.shares(apart, soft=True), method.shares(module, soft=False), None)
    soft, hard, plain = (made.reader.read(visual, turns, None, shares=one) for one in given)
    assert torch.allclose(soft.logits, hard.logits, atol=1e-3)
    assert not torch.allclose(plain.logits, hard.logits, atol=0.1)
    assert not adapter.language.layers[0].self_attn.v_proj._forward_hooks
    # The engine's hooks, on the same prompt.
    prompt = torch.tensor(turns[0].ids[: turns[0].prompt])
    places = torch.arange(visual.shape[1])
    ids = torch.cat([torch.tensor(made.reader.prefix), torch.tensor([adapter.image_token_id]), prompt])
    rows = build_rows(adapter, [ids], [[Visual(visual[0], places, whole_image(adapter))]], "compact", [1])
    from transformers import DynamicCache

    with install(adapter, site_of(method, adapter.geometry), rows):
        hidden = adapter.language(
            inputs_embeds=rows.embeds,
            attention_mask=rows.mask,
            position_ids=adapter.for_language(rows.positions),
            past_key_values=DynamicCache(config=adapter.language.config),
        ).last_hidden_state
    assert torch.allclose(adapter.logits(hidden[:, -1])[0], hard.logits[0, len(prompt)], atol=2e-2)


def test_weights_are_for_a_number_of_layers_and_the_untrained_are_the_start(adapter, folder, scenes):
    with pytest.raises(ParbenchError, match="are for 3 layers, but this model has 12"):
        ready(write(folder / "short.safetensors", adapter, layers=3), adapter)
    path = write(folder / "own.safetensors", adapter)
    kept = []
    for untrained in (False, True):
        method = ready(path, adapter, untrained=untrained)
        (answer,) = Engine(adapter, method).answer([sample(adapter, scenes[3])])
        assert answer.error is None
        assert answer.ledger.tokens_kept == BUDGET
        assert answer.ledger.reducer_flops == 2 * adapter.geometry.layers * adapter.geometry.patches * 192
        kept.append(answer.kept[0].patches)
    assert kept[0] != kept[1]
