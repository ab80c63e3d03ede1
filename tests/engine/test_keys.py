"""Keys chosen layer by layer: against a model that computes and masks them, in both engines and as FLOPs and cache have it."""

from __future__ import annotations

import pytest
import torch

from helpers import reducer, sample, whole_image
from parbench.compute.flops import costs, sample_flops
from parbench.compute.predict import Prompt, predict
from parbench.config.plain import option
from parbench.engine.decode import greedy
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Visual, build_rows
from parbench.engine.sites import site_of
from parbench.errors import ParbenchError
from parbench.reducers import KeyReducer
from parbench.reducers.composing import check_parts
from parbench.testing import check_method

BUDGET, STEPS = 24, 4
# Rows of one, two and no images, so that they are padded; the last begins with an image, which has nothing else to attend to.
PROMPTS = ("What is in <image>?", "Compare <image> with <image>.", "Say something.", "<image> What?")


class Alternating(KeyReducer):
    """Sees other tokens in each layer: those with the largest, or smallest, value in some channel."""

    title, paper = "alternating", "this test"

    def choose(self, view):
        channel = torch.eye(view.states.shape[-1], dtype=torch.float64)[:, [view.layer]]
        return view.best((view.states.double() @ channel)[..., 0] * (-1) ** view.layer)


METHOD = Alternating(budget=BUDGET, name="alternating")


@pytest.fixture(scope="module")
def rows(adapter, scenes):
    with torch.inference_mode():
        pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
        images = adapter.project(adapter.encode(pixels).features)[:, 200:300]
        places = torch.arange(images.shape[1])
        ids = [adapter.tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids[0] for prompt in PROMPTS]
        visuals = [
            [Visual(images[number], places, whole_image(adapter)) for number in range(prompt.count("<image>"))]
            for prompt in PROMPTS
        ]
        return build_rows(adapter, ids, visuals, "compact", [STEPS] * len(PROMPTS))


def masked(adapter, rows, row):
    """Logits [STEPS, V] of a row by whole passes without a cache, in which every layer masks the keys that it does not see."""
    start = int((rows.mask[row] == 0).sum())
    embeds, image = rows.embeds[row : row + 1, start:], rows.image[row, start:]
    positions = rows.positions[row, start:, 0]
    logits, chosen = [], {}

    def look(index, _attention, _args, kwargs):
        hidden = kwargs["hidden_states"][0]
        if index not in chosen:
            seen = image < 0
            for number in range(int(image.max()) + 1):
                mine = (image == number).nonzero().flatten()
                score = hidden[mine, index].double() * (-1) ** index
                seen[mine[score.argsort(descending=True, stable=True)[:BUDGET]]] = True
            chosen[index] = seen
        size = len(hidden)
        seen = torch.cat([chosen[index], torch.ones(size - len(image), dtype=torch.bool)])
        allowed = torch.ones(size, size, dtype=torch.bool).tril() & seen
        nothing = ~allowed.any(1)
        allowed[nothing, nothing.nonzero().flatten()] = True
        return (), {**kwargs, "attention_mask": allowed[None, None]}

    handles = [
        layer.self_attn.register_forward_pre_hook(lambda *given, index=index: look(index, *given), with_kwargs=True)
        for index, layer in enumerate(adapter.language.layers)
    ]
    try:
        for _ in range(STEPS):
            hidden = adapter.language(inputs_embeds=embeds, position_ids=positions[None], use_cache=False).last_hidden_state
            logits.append(adapter.logits(hidden[:, -1])[0])
            embeds = torch.cat([embeds, adapter.embed(logits[-1].argmax()[None, None])], dim=1)
            positions = torch.cat([positions, positions[-1:] + 1])
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(logits)


@torch.inference_mode()
def test_it_computes_what_masks_alone_give(adapter, rows):
    site = site_of(METHOD, adapter.geometry)
    with install(adapter, site, rows) as trace:
        found = greedy(adapter, rows, [STEPS] * len(PROMPTS), [()] * len(PROMPTS))
    assert [layer.tolist() for layer in trace.seen] == [[BUDGET, 2 * BUDGET, 0, BUDGET]] * adapter.geometry.layers
    for row, ours in enumerate(found):
        theirs = masked(adapter, rows, row)
        assert ours.ids == theirs.argmax(-1).tolist()[: len(ours.ids)]
        assert torch.allclose(ours.first_logits, theirs[0], atol=1e-3)
        best = theirs[: len(ours.ids)].topk(2, dim=-1).values
        assert ours.margin == pytest.approx(float((best[:, 0] - best[:, 1]).min()), abs=1e-3)


def test_both_engines_agree_and_keep_the_budget(adapter, scenes):
    samples = [sample(adapter, scenes[number], number, max_new_tokens=1 + 3 * (number > 2)) for number in range(4)]
    together = Engine(adapter, METHOD).answer(samples)
    alone = [answer for one in samples for answer in Engine(adapter, METHOD, share=False).answer([one])]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.error is None
        assert theirs.error is None
        assert (ours.text, ours.kept, ours.ledger) == (theirs.text, theirs.kept, theirs.ledger)
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-3)
        assert ours.ledger.tokens_kept == BUDGET
        assert ours.ledger.reducer_flops == 2 * adapter.geometry.layers * adapter.geometry.patches * 192
        # Other tokens in other layers.
        assert ours.kept[0].tokens > 2 * BUDGET


def test_flops_are_those_of_prefill_with_and_decoding_on_the_seen_keys(adapter, scenes):
    (answer,) = Engine(adapter, METHOD, share=False).answer([sample(adapter, scenes[4])])
    ledger, cost, size = answer.ledger, costs(adapter.model.config), adapter.geometry.patches
    total = ledger.layers[0]
    assert set(ledger.layers) == {total}
    assert set(ledger.visual) == {size}
    assert set(ledger.held) == {total - size + BUDGET}
    found = sample_flops(cost, ledger)
    pairs = cost.layer.square * total * (total - size + BUDGET)
    assert found["llm_prefill"] == cost.layers * (cost.layer.linear * total + pairs) + cost.head
    assert predict(option("model", "llava-tiny"), METHOD, None, Prompt(total - size), "")["llm_prefill"] == found["llm_prefill"]


def test_everything_is_seen_without_any_change(adapter, scenes):
    samples = [sample(adapter, scenes[number], number) for number in range(2)]
    whole = Alternating(budget=adapter.geometry.patches, name="alternating")
    found, plain = (Engine(adapter, one, share=False).answer(samples) for one in (whole, reducer("none")))
    assert [(one.text, one.margin) for one in found] == [(one.text, one.margin) for one in plain]
    assert found[0].ledger.held == plain[0].ledger.held


def test_it_is_no_part_of_a_composed_method_and_a_missed_budget_is_an_error(adapter, scenes):
    with pytest.raises(ParbenchError, match="chooses keys inside the LLM"):
        check_parts("both", METHOD, reducer("fastv"))

    class Greedy(KeyReducer):
        title = "greedy"

        def choose(self, view):
            return view.valid

    (answer,) = Engine(adapter, Greedy(budget=8, name="greedy")).answer([sample(adapter, scenes[0])])
    assert "lets layer 0 see [576] tokens instead of [8]" in answer.error


def test_a_method_of_ones_own_conforms(adapter):
    assert {"counts_what_runs", "keeps_everything", "keeps_the_same_alone"} <= set(check_method(METHOD, adapter))
