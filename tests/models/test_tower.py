"""Merging inside the vision tower: against recorded official outputs, and against a tower written out by hand."""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import pairwise

import pytest
import torch

from helpers import reducer, sample
from parbench.compute.flops import costs
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry
from parbench.models.merging import merge_blocks
from parbench.ops.matching import merge_average, merge_none
from parbench.parity.case import load_cases
from parbench.parity.finding import parity_of
from parbench.reducers.calibration import Subject, block_thresholds, calibrated
from paths import GOLDEN

CASES = [case for case in load_cases(GOLDEN) if case.method == "dtome"]
DTOME = parity_of("dtome")
LARGE = Geometry(rows=24, columns=24, layers=32, blocks=24, patch=14)


@pytest.fixture(scope="module")
def pixels(adapter, scenes):
    return adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15, 30)])


@torch.inference_mode()
def encode(adapter, pixels, method):
    return adapter.encode(pixels, merger=partial(method.merge, geometry=adapter.geometry))


def hooks(adapter):
    modules = adapter.model.model.vision_tower.modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


@pytest.mark.parametrize("name", ["group", "kept_indices", "merged_dst", "size", "output_tokens"])
def test_a_changed_recording_is_noticed(name):
    case = next(case for case in CASES if case.name == "tome_fixed_r16_seed0")
    changed = {**case.recorded, name: case.recorded[name].flip(0)}
    assert not DTOME.run(dataclasses.replace(case, recorded=changed)).matches


def test_a_changed_threshold_is_noticed():
    case = next(case for case in CASES if case.name == "dtome_calibration")
    changed = {**case.recorded, "running_thresholds": case.recorded["running_thresholds"] + 1e-3}
    assert not DTOME.run(dataclasses.replace(case, recorded=changed)).matches


def test_a_tower_without_cls_is_not_compared():
    case = dataclasses.replace(CASES[0], parameters={**CASES[0].parameters, "class_token": False})
    assert "CLS" in DTOME.unsupported(case)


@pytest.mark.parametrize(
    "method",
    [reducer("tome", 576), reducer("dymu", thresholds=1.1), reducer("flowcut", 576), reducer("folder-tower", 576)],
    ids=["tome", "dymu", "flowcut", "folder-tower"],
)
def test_with_nothing_merged_the_tower_is_untouched_bit_for_bit(method, adapter, pixels):
    with torch.inference_mode():
        plain = adapter.encode(pixels)
    ours = encode(adapter, pixels, method)
    assert torch.equal(ours.features, plain.features)
    assert torch.equal(ours.cls, plain.cls)
    assert torch.equal(ours.lengths, plain.lengths)


def test_hooks_come_before_those_that_collect_hidden_states(settings, pixels):
    """A fresh model collects hidden states by hooks that it puts in at its first forward, here behind ours."""
    from parbench.models.adapter import ModelAdapter

    fresh = ModelAdapter.load({**settings, "name": "fresh"})
    method = reducer("tome", 64)
    first, second = encode(fresh, pixels, method), encode(fresh, pixels, method)
    assert torch.equal(first.features, second.features)


def test_hooks_are_taken_out_whatever_happens(adapter, pixels):
    encode(adapter, pixels, reducer("tome", 64))
    before = hooks(adapter)
    seen = []

    def fails(view):
        seen.append(hooks(adapter))
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        adapter.encode(pixels, merger=fails)
    assert seen[0] > before
    assert hooks(adapter) == before


def test_only_blocks_whose_output_is_read_merge(adapter, pixels):
    blocks = []

    def note(view):
        blocks.append(view.block)
        return merge_none(view.counts, view.keys.shape[1])

    with torch.inference_mode():
        adapter.encode(pixels, merger=note)
    assert blocks == [0, 1, 2, 3, 4]
    assert adapter.geometry.read == 5
    assert LARGE.read == 23


@pytest.mark.parametrize("method", [reducer("tome", 64), reducer("dymu", thresholds=0.95)], ids=["tome", "dymu"])
@torch.inference_mode()
def test_the_tower_is_the_one_written_out_by_hand(method, adapter, pixels):
    """Softmax with log sizes, merging between attention and MLP, one image at a time, no hooks and no padding."""
    model = adapter.model.model.vision_tower
    encoded = encode(adapter, pixels, method)
    reduction = method.origin(encoded, adapter.geometry)
    for image in range(len(pixels)):
        hidden = model.pre_layrnorm(model.embeddings(pixels[image : image + 1]))
        size = torch.ones(1, hidden.shape[1], dtype=torch.float64)
        members = [{place} for place in range(hidden.shape[1])]
        lengths = [hidden.shape[1]]
        for block in range(adapter.geometry.read):
            layer = model.encoder.layers[block]
            attention, normed = layer.self_attn, layer.layer_norm1(hidden)
            query, key, value = (
                projection(normed).view(hidden.shape[1], attention.num_heads, attention.head_dim).transpose(0, 1)
                for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            logits = query @ key.transpose(1, 2) * attention.scale + size.log().float()
            mixed = (logits.softmax(-1) @ value).transpose(0, 1).reshape(1, hidden.shape[1], -1)
            hidden = hidden + attention.out_proj(mixed)
            keys, counts = key.mean(0)[None], torch.tensor([hidden.shape[1]])
            merge = method.merge(BlockView(block, keys, keys, keys, 1, counts, size), adapter.geometry)
            hidden, size = merge_average(hidden, size, merge)
            joined = [set() for _ in range(hidden.shape[1])]
            for token, group in enumerate(merge.group[0].tolist()):
                joined[group] |= members[token]
            members = joined
            hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
            lengths.append(hidden.shape[1])
        assert encoded.lengths[image].tolist() == [*lengths, lengths[-1]]
        assert int(reduction.counts[image]) == hidden.shape[1] - 1
        ranked = sorted(range(1, hidden.shape[1]), key=lambda token: min(members[token]))
        assert torch.allclose(encoded.features[image, : len(ranked)], hidden[0, ranked], atol=1e-4)
        token, patch, weight = reduction.provenance.of(image)
        for number, old in enumerate(ranked):
            assert set(patch[token == number].tolist()) == {place - 1 for place in members[old]}
        assert torch.allclose(torch.zeros(len(ranked)).double().scatter_add(0, token, weight), torch.ones(1).double())


def test_images_of_a_batch_may_keep_different_numbers(adapter, pixels):
    method = reducer("dymu", thresholds=0.95)
    together = encode(adapter, pixels, method)
    assert len(set(together.lengths[:, -1].tolist())) > 1
    for image in range(len(pixels)):
        alone = encode(adapter, pixels[image : image + 1], method)
        count = alone.features.shape[1]
        assert torch.equal(alone.owner[0], together.owner[image])
        assert torch.equal(alone.lengths[0], together.lengths[image])
        assert torch.allclose(alone.features[0], together.features[image, :count], atol=1e-4)


def test_a_budget_is_spread_evenly_over_the_blocks_that_act(adapter):
    assert reducer("tome", 192).merges(adapter.geometry) == [77, 77, 77, 77, 76]
    # 102 or 103 a block cannot be: the last one would have only 168 left, of which it can merge 83.
    assert reducer("tome", 64).merges(adapter.geometry) == [112, 112, 112, 112, 64]
    assert reducer("tome", 64).merges(LARGE) == [23] * 6 + [22] * 17


def test_an_own_number_needs_no_budget(adapter, scenes):
    method = dataclasses.replace(reducer("tome", r=50), budget=None)
    (answer,) = Engine(adapter, method).answer([sample(adapter, scenes[0])])
    assert answer.ledger.tower == ((577, 527, 477, 427, 377, 327, 327),)
    assert answer.ledger.projector == answer.ledger.visual[0] == 326


@pytest.mark.parametrize("name", ["tome", "dymu"])
def test_a_budget_below_halving_in_every_block_is_refused(name, adapter):
    reducer(name, 18).check(adapter.geometry)
    with pytest.raises(ParbenchError, match=r"budget=17 of method .* so the smallest budget is 18$"):
        reducer(name, 17).check(adapter.geometry)


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"r": -1}, "use 0 or more"), ({"positions": "original"}, "use one of compact, keep")],
)
def test_impossible_settings_of_tome_are_refused(fields, said):
    with pytest.raises(ParbenchError, match=said):
        reducer("tome", **fields)


def test_impossible_thresholds_are_refused(adapter):
    with pytest.raises(ParbenchError, match="not a list of similarities"):
        reducer("dymu", thresholds=[0.9, "high"])
    with pytest.raises(ParbenchError, match="has 3 numbers: this model needs 5"):
        reducer("dymu", thresholds=[0.9] * 3).check(adapter.geometry)
    reducer("dymu", thresholds=[0.9] * 5).check(adapter.geometry)
    # A release's list for all blocks serves too; the last one is not read.
    reducer("dymu", thresholds=[0.9] * 6).check(adapter.geometry)


def test_thresholds_come_from_yaml_and_command_line_as_plain_numbers():
    from parbench.config import build_reducer, compose_config

    built = build_reducer(compose_config(["method=dymu", "method.thresholds=[0.9,0.8,0.9,0.9,0.9]"]).method)
    assert built.settings()["thresholds"] == [0.9, 0.8, 0.9, 0.9, 0.9]
    assert type(built.thresholds) is list
    with pytest.raises(ParbenchError, match=r"method.thresholds=high of dymu is of the wrong kind"):
        build_reducer(compose_config(["method=dymu", "method.thresholds=high"]).method)


def test_a_kernel_that_cannot_weigh_tokens_is_refused(adapter, monkeypatch):
    vision = adapter.model.model.vision_tower
    monkeypatch.setattr(vision.config, "_attn_implementation_internal", "flash_attention_2")
    with (
        pytest.raises(ParbenchError, match="=sdpa or eager"),
        merge_blocks(vision, lambda view: merge_none(view.counts, view.keys.shape[1]), 5),
    ):
        pass


@torch.inference_mode()
def test_calibration_meets_the_budget_on_average(adapter, scenes):
    images = [adapter.pixels([scenes[number]["image"].convert("RGB")]) for number in (0, 15, 30, 45)]
    method = reducer("dymu", 192, thresholds=None)

    def over_all(merger):
        for one in images:
            adapter.encode(one, merger=merger)

    found = block_thresholds(method, over_all, len(images), adapter.geometry)
    assert len(found) == adapter.geometry.read
    tuned = dataclasses.replace(method, thresholds=found)
    counts = [int(encode(adapter, one, tuned).lengths[0, -1]) - 1 for one in images]
    assert len(set(counts)) > 1
    assert abs(sum(counts) / len(counts) - 192) <= 1


@pytest.mark.parametrize("budget", [32, 64, 128, 192])
def test_shipped_thresholds_belong_to_the_shipped_model(budget, adapter):
    subject = Subject("llava-tiny", adapter.fingerprint, adapter.geometry)
    tuned = calibrated(reducer("dymu", budget, thresholds=None), subject)
    tuned.check(adapter.geometry)
    assert len(tuned.thresholds) == adapter.geometry.read


def test_fewer_tokens_in_later_blocks_cost_less(adapter):
    cost, vision = costs(adapter.model.config), adapter.model.config.vision_config
    c, m = vision.hidden_size, vision.intermediate_size
    lengths = [577, 465, 353, 241, 129, 65, 65]
    blocks = sum(2 * (now * 4 * c * c + 2 * now * now * c + after * 2 * c * m) for now, after in pairwise(lengths))
    assert cost.vision([lengths]) == pytest.approx(blocks + 2 * 576 * 3 * vision.patch_size**2 * c, rel=1e-3)
    assert cost.vision([lengths]) < cost.vision([[577] * 7])


def test_flops_of_tome_are_predicted_as_they_are_counted(adapter, scenes, settings):
    from parbench.compute.flops import costs, sample_flops
    from parbench.compute.predict import Prompt, predict

    method = reducer("tome", 64)
    (answer,) = Engine(adapter, method).answer([sample(adapter, scenes[0])])
    counted = sample_flops(costs(adapter.model.config), answer.ledger)
    text = answer.ledger.layers[0] - 64
    predicted = predict(settings, method, None, Prompt(text), "before_projector")
    for part in ("vision", "projector", "llm_prefill"):
        assert predicted[part] == counted[part]
    assert counted["reducer"] > 0
