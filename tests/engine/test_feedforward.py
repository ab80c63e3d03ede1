"""Tokens that skip the MLP: against a model that computes and zeroes them, and against what torch counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from helpers import reducer, sample, whole_image
from parbench.compute.flops import costs, sample_flops
from parbench.compute.predict import Prompt, predict
from parbench.config.plain import option
from parbench.engine.decode import greedy
from parbench.engine.engine import Engine
from parbench.engine.hooks.feedforward import skipped_columns
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Visual, build_rows
from parbench.engine.sites import site_of

BUDGET, STEPS = 40, 4
METHOD = reducer("skip-vision", BUDGET)
# Rows of one, two and no images, so that they are padded, and lose different numbers of tokens.
PROMPTS = ("What is in <image>?", "Compare <image> with <image>.", "Say something.")


@pytest.fixture(scope="module")
def rows(adapter, scenes):
    with torch.inference_mode():
        pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
        images = adapter.project(adapter.encode(pixels).features)[:, :BUDGET]
        ids = [adapter.tokenizer(prompt, return_tensors="pt").input_ids[0] for prompt in PROMPTS]
        visuals = [
            [Visual(images[number], torch.arange(BUDGET), whole_image(adapter)) for number in range(prompt.count("<image>"))]
            for prompt in PROMPTS
        ]
        return build_rows(adapter, ids, visuals, "compact", [STEPS] * len(PROMPTS))


def zeroed(adapter, rows, skipped):
    """Logits [B, STEPS, V] and tokens of a run in which every MLP runs on all tokens and is then zeroed for some."""
    from transformers import DynamicCache

    def zero(_mlp, _args, output):
        return output.masked_fill(skipped[..., None], 0.0) if output.shape[1] == skipped.shape[1] else None

    handles = [layer.mlp.register_forward_hook(zero) for layer in adapter.language.layers]
    try:
        cache, embeds, mask, positions = DynamicCache(config=adapter.language.config), rows.embeds, rows.mask, rows.positions
        given, following, logits = mask, rows.next[:, None], []
        mask = mask.masked_fill(skipped, 0)
        for _ in range(STEPS):
            hidden = adapter.language(
                inputs_embeds=embeds, attention_mask=given, position_ids=positions[..., 0], past_key_values=cache, use_cache=True
            ).last_hidden_state
            logits.append(adapter.logits(hidden[:, -1]))
            embeds, positions = adapter.embed(logits[-1].argmax(-1)[:, None]), following
            mask = given = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
            following = following + 1
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(logits, dim=1)


@torch.inference_mode()
def test_it_computes_what_zeroed_outputs_and_hidden_keys_give(adapter, rows):
    skipped = skipped_columns(METHOD, adapter, rows)
    per_image = int(METHOD.skips(adapter.geometry).sum())
    assert skipped.sum(1).tolist() == [per_image, 2 * per_image, 0]
    expected = zeroed(adapter, rows, skipped)
    with install(adapter, site_of(METHOD, adapter.geometry), rows):
        found = greedy(adapter, rows, [STEPS] * len(PROMPTS), [()] * len(PROMPTS))
    for ours, theirs in zip(found, expected, strict=True):
        tokens = theirs.argmax(-1).tolist()
        assert ours.ids == tokens[: len(ours.ids)]
        assert torch.allclose(ours.first_logits, theirs[0], atol=1e-4)
        best = theirs[: len(ours.ids)].topk(2, dim=-1).values
        assert ours.margin == pytest.approx(float((best[:, 0] - best[:, 1]).min()), abs=1e-3)
    plain_first = zeroed(adapter, rows, torch.zeros_like(skipped))
    assert not torch.allclose(expected[:2], plain_first[:2], atol=1e-2)


@torch.inference_mode()
def test_the_cache_and_the_flops_are_those_of_the_ledger(adapter, scenes):
    from transformers import DynamicCache

    one = sample(adapter, scenes[4])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        (answer,) = Engine(adapter, METHOD, share=False).answer([one])
    ledger, cost = answer.ledger, costs(adapter.model.config)
    skipped = int(METHOD.skips(adapter.geometry).sum())
    assert ledger.fed == tuple(count - skipped for count in ledger.layers)
    assert set(ledger.visual) == {BUDGET}
    assert sample_flops(cost, ledger)["total"] == pytest.approx(counter.get_total_flops(), rel=3e-2)

    text = ledger.layers[0] - BUDGET
    model = option("model", "llava-tiny")
    assert predict(model, METHOD, None, Prompt(text), "")["llm_prefill"] == sample_flops(cost, ledger)["llm_prefill"]

    ids = adapter.tokenizer(PROMPTS[0], return_tensors="pt").input_ids[0]
    embeds = torch.randn(BUDGET, adapter.language.config.hidden_size, generator=torch.Generator().manual_seed(0))
    row = build_rows(adapter, [ids], [[Visual(embeds, torch.arange(BUDGET), whole_image(adapter))]], "compact", [1])
    cache = DynamicCache(config=adapter.language.config)
    counting = FlopCounterMode(display=False)
    with install(adapter, site_of(METHOD, adapter.geometry), row) as trace, counting as counter, sdpa_kernel(SDPBackend.MATH):
        adapter.language(
            inputs_embeds=row.embeds, attention_mask=row.mask, position_ids=row.positions[..., 0], past_key_values=cache
        )
    layers, fed = ([int(layer[0]) for layer in layers] for layers in (trace.layers, trace.fed))
    assert counter.get_total_flops() == cost.prefill(layers, fed=fed) - cost.head
    assert cost.prefill(layers) - cost.prefill(layers, fed=fed) == cost.feed * skipped * adapter.geometry.layers
    assert {layer.keys.shape[2] for layer in cache.layers} == {layers[0] - skipped}


def test_rows_that_end_leave_the_others_alone(adapter, scenes):
    samples = [sample(adapter, scenes[number], number, max_new_tokens=1 + 3 * (number > 2)) for number in range(4)]
    together = Engine(adapter, METHOD).answer(samples)
    alone = [answer for one in samples for answer in Engine(adapter, METHOD, share=False).answer([one])]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.error is None
        assert (ours.text, ours.kept, ours.ledger.fed) == (theirs.text, theirs.kept, theirs.ledger.fed)
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-3)


def test_nothing_is_hooked_where_nothing_is_skipped(adapter, scenes):
    (answer,) = Engine(adapter, reducer("skip-vision", 64, skipped=0)).answer([sample(adapter, scenes[0])])
    assert answer.ledger.fed == ()
    assert answer.kept[0].tokens == len(set(answer.kept[0].patches)) == 64
