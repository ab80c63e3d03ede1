"""Attention over every patch with linear layers on merged tokens: against plain loops, the untouched model and itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from helpers import reducer, sample, whole_image
from parbench.compute.flops import costs, sample_flops
from parbench.compute.predict import Prompt, predict
from parbench.engine.decode import greedy
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.hooks.unmerge import averaged, whole
from parbench.engine.inputs import Visual, build_rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.sites import site_of
from parbench.models.adapter import ModelAdapter
from parbench.reducers.calibration import Subject, calibrated

ONE, TWO, NONE = "What is in <image>?", "Compare <image> with <image>.", "Say something."
UNMERGED = reducer("dymu", thresholds=0.9, unmerge=True)


@pytest.fixture(scope="module")
def embeddings(adapter, scenes):
    """What two images are for the LLM; two of 400 patches fit into the tiny model's context."""
    with torch.inference_mode():
        pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
        return adapter.project(adapter.encode(pixels).features)[:, :400]


def partition(patches, tokens, seed):
    """[N] the token of each patch, numbered by the first patch in each; scattered over the image."""
    drawn = torch.randint(tokens, (patches,), generator=torch.Generator().manual_seed(seed)).tolist()
    numbers = {}
    return torch.tensor([numbers.setdefault(token, len(numbers)) for token in drawn])


def rows_of(adapter, embeddings, prompts, tokens=(40, 90)):
    """Rows of merged tokens; an image is merged alike wherever it stands. No ``tokens``: nothing is merged."""
    ids, visuals = [], []
    for prompt in prompts:
        count = prompt.count("<image>")
        ids.append(adapter.tokenizer(prompt, return_tensors="pt").input_ids[0])
        row = []
        for number in range(count):
            patches = embeddings.shape[1]
            owner = partition(patches, tokens[number], number) if tokens else torch.arange(patches)
            member = torch.nn.functional.one_hot(owner).to(embeddings.dtype)
            merged = (member.T / member.sum(0)[:, None]) @ embeddings[number] if tokens else embeddings[number]
            first = member.argmax(0)
            row.append(Visual(merged, first, whole_image(adapter), number, owner))
        visuals.append(row)
    with torch.inference_mode():
        return build_rows(adapter, ids, visuals, "compact", [8] * len(prompts))


@torch.inference_mode()
def generate(adapter, rows, monkeypatch, method=UNMERGED, tokens=8, cached=True):
    """Ids, logits of every step [steps, B, V], trace; nothing ends before its limit."""
    monkeypatch.setattr(ModelAdapter, "end_tokens", property(lambda _self: set()))
    logits = []
    handle = adapter.model.lm_head.register_forward_hook(lambda _m, _a, output: logits.append(output[:, -1]))
    try:
        with install(adapter, site_of(method, adapter.geometry), rows) as trace:
            found = greedy(adapter, rows, [tokens] * len(rows.mask), [()] * len(rows.mask), cached)
    finally:
        handle.remove()
    return [row.ids for row in found], torch.stack(logits), trace


def hooks(adapter):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in adapter.model.modules())


@torch.inference_mode()
def by_hand(adapter, embeds, places):
    """Last logits of one row: ``embeds`` [S, d], ``places`` the list of positions of each token; softmax written out."""
    language = adapter.language
    length = sum(len(mine) for mine in places)
    token_at = {place: token for token, mine in enumerate(places) for place in mine}
    order = [token_at[place] for place in range(length)]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    width = language.layers[0].self_attn.head_dim
    rate = language.config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
    angle = torch.arange(length).float()[:, None] * rate
    cos, sin = torch.cat([angle, angle], 1).cos(), torch.cat([angle, angle], 1).sin()

    def turned(values):
        return values * cos + torch.cat([-values[..., width // 2 :], values[..., : width // 2]], -1) * sin

    hidden = embeds
    for layer in language.layers:
        attention, normed = layer.self_attn, layer.input_layernorm(hidden)[order]
        heads = [
            part(normed).view(length, -1, width).transpose(0, 1) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        ]
        query, key = turned(heads[0]), turned(heads[1]).repeat_interleave(attention.num_key_value_groups, 0)
        value = heads[2].repeat_interleave(attention.num_key_value_groups, 0)
        weights = (query @ key.transpose(1, 2) * width**-0.5).masked_fill(~seen, float("-inf")).softmax(-1)
        output = attention.o_proj((weights @ value).transpose(0, 1).flatten(1))
        hidden = hidden + torch.stack([output[mine].mean(0) for mine in places])
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return adapter.logits(language.norm(hidden[-1]))


def places_of(rows, row):
    """Positions of each real token in the sequence without merging, from the owners alone."""
    image, mask = rows.image[row].tolist(), rows.mask[row].tolist()
    before = int((rows.image[:row].amax(1) + 1).clamp(min=0).sum())
    found, position, start = [], 0, {}
    for number, real in zip(image, mask, strict=True):
        if not real:
            continue
        if number < 0:
            found.append([position])
            position += 1
            continue
        owner = rows.owners[before + number].tolist()
        if number not in start:
            start[number] = (position, len(found))
            position += len(owner)
        base, first = start[number]
        token = len(found) - first
        found.append([base + patch for patch, mine in enumerate(owner) if mine == token])
    return found


@pytest.mark.parametrize("prompts", [[ONE], [TWO], ["<image>"], [TWO, NONE, ONE]])
def test_with_nothing_merged_the_llm_is_untouched_bit_for_bit(prompts, adapter, embeddings, monkeypatch):
    rows = rows_of(adapter, embeddings, prompts, tokens=())
    ids, logits, trace = generate(adapter, rows, monkeypatch)
    plain, expected, untouched = generate(adapter, rows, monkeypatch, reducer("none"))
    assert ids == plain
    assert torch.equal(logits, expected)
    assert [layer.tolist() for layer in trace.attended] == [layer.tolist() for layer in untouched.layers]


def test_merged_tokens_give_what_plain_loops_give(adapter, embeddings, monkeypatch):
    rows = rows_of(adapter, embeddings, [TWO, NONE, ONE])
    ids, logits, trace = generate(adapter, rows, monkeypatch)
    assert [len(places_of(rows, row)) for row in range(3)] == rows.mask.sum(1).tolist()
    for row in range(3):
        places, embeds = places_of(rows, row), rows.embeds[row][rows.mask[row].bool()]
        assert trace.layers[-1][row] == len(places)
        assert trace.attended[-1][row] == sum(len(mine) for mine in places)
        for step in range(8):
            expected = by_hand(adapter, embeds, places)
            assert torch.allclose(logits[step, row], expected, atol=1e-4)
            embeds = torch.cat([embeds, adapter.embed(torch.tensor(ids[row][step : step + 1]))])
            places = [*places, [sum(len(mine) for mine in places)]]


def test_it_is_not_what_merged_tokens_alone_give(adapter, embeddings, monkeypatch):
    rows = rows_of(adapter, embeddings, [ONE])
    merged_only = dataclasses.replace(UNMERGED, unmerge=False)
    _, logits, _ = generate(adapter, rows, monkeypatch, tokens=1)
    _, others, trace = generate(adapter, rows, monkeypatch, merged_only, tokens=1)
    assert not torch.allclose(logits, others, atol=1e-1)
    assert trace.attended == []


def test_decoding_from_the_cache_is_running_everything_again(adapter, embeddings, monkeypatch):
    rows = rows_of(adapter, embeddings, [ONE, TWO, NONE])
    ids, logits, _ = generate(adapter, rows, monkeypatch)
    again, expected, trace = generate(adapter, rows, monkeypatch, cached=False)
    assert [len(row) for row in ids] == [8, 8, 8]
    assert ids == again
    assert torch.allclose(logits, expected, atol=1e-4)
    assert len(trace.attended) == len(trace.layers) == adapter.geometry.layers


def test_rows_are_treated_each_by_itself(adapter, embeddings, monkeypatch):
    prompts = [TWO, NONE, ONE]
    ids, logits, trace = generate(adapter, rows_of(adapter, embeddings, prompts), monkeypatch)
    for number, prompt in enumerate(prompts):
        single, expected, own = generate(adapter, rows_of(adapter, embeddings, [prompt]), monkeypatch)
        assert ids[number] == single[0]
        assert torch.allclose(logits[:, number], expected[:, 0], atol=1e-4)
        for ours, theirs in ((trace.layers, own.layers), (trace.attended, own.attended)):
            assert [int(layer[number]) for layer in ours] == [int(layer[0]) for layer in theirs]


def test_the_cache_holds_the_full_length(adapter, embeddings, monkeypatch):
    rows, held = rows_of(adapter, embeddings, [ONE]), []
    last = adapter.language.layers[-1].self_attn

    def look(_attention, _args, kwargs, _output):
        held.append(kwargs["past_key_values"].layers[last.layer_idx].keys.shape[2])

    handle = last.register_forward_hook(look, with_kwargs=True)
    try:
        generate(adapter, rows, monkeypatch, tokens=3)
    finally:
        handle.remove()
    full = whole(rows).shape[1]
    assert full == embeddings.shape[1] + int((rows.image < 0).sum())
    assert held == [full, full + 1, full + 2]


def test_hooks_are_gone_when_a_layer_fails(adapter, embeddings, monkeypatch):
    rows = rows_of(adapter, embeddings, [ONE])
    generate(adapter, rows, monkeypatch, reducer("none"), tokens=1)
    before, seen = hooks(adapter), []

    def fail(*_):
        seen.append(hooks(adapter))
        raise ZeroDivisionError

    handle = adapter.language.layers[1].mlp.register_forward_pre_hook(fail)
    try:
        with pytest.raises(ZeroDivisionError):
            generate(adapter, rows, monkeypatch)
    finally:
        handle.remove()
    assert seen[0] > before + 1
    assert hooks(adapter) == before


def test_averages_are_of_a_tokens_own_places():
    values = torch.tensor([[[1.0], [3.0], [7.0], [float("nan")]], [[5.0], [6.0], [7.0], [8.0]]])
    source = torch.tensor([[1, 1, 2, -1], [0, 1, 2, 0]])
    expected = torch.tensor([[[0.0], [2.0], [7.0]], [[6.5], [6.0], [7.0]]])
    assert torch.equal(averaged(values, source, 3), expected)


@pytest.fixture(scope="module")
def answers(adapter, scenes):
    """The same questions without reduction, with merging alone and with unmerging."""
    samples = [sample(adapter, scenes[number], number) for number in (0, 15)]
    methods = {
        "none": reducer("none"),
        "merged": reducer("dymu", thresholds=0.96),
        "unmerged": reducer("dymu", thresholds=0.96, unmerge=True),
    }
    return {name: Engine(adapter, method).answer(samples) for name, method in methods.items()}


def test_flops_lie_between_those_of_merging_alone_and_of_no_reduction(adapter, answers):
    cost = costs(adapter.model.config)
    for none, merged, unmerged in zip(*answers.values(), strict=True):
        assert [none.error, merged.error, unmerged.error] == [None] * 3
        ledger = unmerged.ledger
        assert ledger.layers == merged.ledger.layers
        assert ledger.visual == merged.ledger.visual
        assert ledger.tokens_kept < adapter.geometry.patches
        assert ledger.attended == none.ledger.layers
        assert none.ledger.attended == merged.ledger.attended == ()
        parts = [sample_flops(costs(adapter.model.config), answer.ledger) for answer in (merged, unmerged, none)]
        assert parts[0]["llm_prefill"] < parts[1]["llm_prefill"] < parts[2]["llm_prefill"]
        linear = sum(cost.layer.linear * (n - m) for n, m in zip(none.ledger.layers, ledger.layers, strict=True))
        assert parts[2]["llm_prefill"] - parts[1]["llm_prefill"] == linear
        assert parts[1]["vision"] == parts[0]["vision"]


def test_attention_is_paid_at_its_own_length(adapter):
    cost, layers = costs(adapter.model.config), adapter.geometry.layers
    expected = layers * (cost.layer.linear * 100 + cost.layer.square * 600**2) + cost.head
    assert cost.prefill([100] * layers, [600] * layers) == expected
    ledger = SampleLedger(((577,) * 7,), 64, 0, (100,) * layers, (64,) * layers, 3, attended=(600,) * layers)
    parts = sample_flops(costs(adapter.model.config), ledger)
    assert parts["llm_prefill"] == expected
    assert parts["decode"] == cost.decode([600] * layers, 3)


def test_a_real_run_costs_what_its_ledger_says(adapter, scenes):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        (answer,) = Engine(adapter, UNMERGED).answer([sample(adapter, scenes[4])])
    assert answer.ledger.generated > 1
    parts = sample_flops(costs(adapter.model.config), answer.ledger)
    assert parts["total"] == pytest.approx(counter.get_total_flops(), rel=2e-2)


def test_a_batch_answers_as_single_samples_do(adapter, scenes, answers):
    samples = [sample(adapter, scenes[number], number) for number in (0, 15)]
    one_by_one = Engine(adapter, reducer("dymu", thresholds=0.96, unmerge=True))
    single = [answer for one in samples for answer in one_by_one.answer([one])]
    for batch, alone in zip(answers["unmerged"], single, strict=True):
        assert batch.text == alone.text
        # The work of choosing is an equal share of a batch's.
        assert dataclasses.replace(batch.ledger, reducer_flops=alone.ledger.reducer_flops) == alone.ledger


def test_keeping_all_is_the_untouched_model(adapter, scenes):
    samples = [sample(adapter, scenes[number], number) for number in (0, 15)]
    found = [Engine(adapter, method).answer(samples) for method in (reducer("none"), reducer("dymu", thresholds=1.1, unmerge=True))]
    for plain, ours in zip(*found, strict=True):
        assert (ours.text, ours.margin) == (plain.text, plain.margin)
        assert ours.ledger.layers == ours.ledger.attended == plain.ledger.layers


@pytest.mark.parametrize("unmerge", [False, True])
def test_shipped_thresholds_serve_both(unmerge, adapter):
    subject = Subject("llava-tiny", adapter.fingerprint, adapter.geometry)
    tuned = calibrated(reducer("dymu", 64, thresholds=None, unmerge=unmerge), subject)
    assert len(tuned.thresholds) == adapter.geometry.read
    assert tuned.unmerge == unmerge
    assert ("full length" in tuned.note) == unmerge


def test_predicted_flops_have_attention_in_full(settings):
    none, merged, unmerged = (
        predict(settings, method, None, Prompt(60), "before_projector")["llm_prefill"]
        for method in (reducer("none"), reducer("dymu", 64), reducer("dymu", 64, unmerge=True))
    )
    assert merged < unmerged < none
