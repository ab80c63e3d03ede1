"""FlowCut: each image by itself, exact budgets, whole blocks in the FLOPs. The recorded cases compare its choices."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch

from helpers import reducer, sample
from parbench.compute.flops import costs, sample_flops
from parbench.compute.predict import Prompt, predict
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry

LARGE = Geometry(rows=24, columns=24, layers=32, blocks=24, patch=14)


@torch.inference_mode()
def encode(adapter, pixels, method):
    return adapter.encode(pixels, merger=partial(method.merge, geometry=adapter.geometry))


def test_an_image_keeps_the_same_patches_in_any_batch(adapter, scenes):
    pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15, 30)])
    method = reducer("flowcut", 64)
    together = encode(adapter, pixels, method)
    between = together.lengths[:, 2].tolist()
    assert len(set(between)) > 1
    assert together.lengths[:, [0, 1, 4, 6]].tolist() == [[577, 577, 65, 65]] * 3
    for image in range(3):
        alone = encode(adapter, pixels[image : image + 1], method)
        assert torch.equal(alone.owner[0], together.owner[image])
        assert torch.equal(alone.lengths[0], together.lengths[image])
        assert torch.allclose(alone.features[0], together.features[image], atol=1e-4)


def test_kept_patches_are_in_raster_order(adapter, scenes):
    pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
    encoded = encode(adapter, pixels, reducer("flowcut", 100))
    found = reducer("flowcut", 100).origin(encoded, adapter.geometry)
    for image in range(2):
        token, patch, weight = found.provenance.of(image)
        assert token.tolist() == list(range(100))
        assert patch.tolist() == sorted(patch.tolist())
        assert weight.tolist() == [1.0] * 100
        assert patch.tolist() == (encoded.owner[image] >= 0).nonzero().flatten().tolist()


def test_flat_attention_drops_nothing_before_the_last_cut():
    values = torch.randn(2, 577, 8, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros_like(values)
    view = BlockView(1, nothing, nothing, values, 2, torch.tensor([577, 577]), torch.ones(2, 577))
    cut = reducer("flowcut", 64).merge(view, LARGE)
    assert bool(cut.keep.all())
    last = BlockView(21, nothing, nothing, values, 2, torch.tensor([577, 577]), torch.ones(2, 577), cut.carried)
    assert reducer("flowcut", 64).merge(last, LARGE).keep.sum(1).tolist() == [65, 65]


def test_sharp_attention_drops_the_share_of_the_blocks_that_are_left():
    """The entropy is 0, so that (576 - 64) / sqrt(20) patches go."""
    queries = torch.zeros(1, 577, 4)
    queries[0, 0] = keys = torch.full((4,), 1e3)
    keys = torch.zeros(1, 577, 4).index_fill(1, torch.tensor([7]), 1.0) * keys
    view = BlockView(1, queries, keys, torch.ones(1, 577, 4), 1, torch.tensor([577]), torch.ones(1, 577))
    keep = reducer("flowcut", 64).merge(view, LARGE).keep
    assert 577 - int(keep.sum()) == round(512 / 20**0.5)
    assert keep[0, :8].tolist() == [True] * 8


def test_blocks_before_a_cut_run_on_all_tokens(adapter, scenes, settings):
    (answer,) = Engine(adapter, reducer("flowcut", 64)).answer([sample(adapter, scenes[0])])
    cost, (lengths,) = costs(adapter.model.config), answer.ledger.tower
    parts = sample_flops(cost, answer.ledger)
    whole = cost.embed * 576 + sum(cost.block(entering) for entering, _ in pairwise(lengths))
    assert parts["vision"] == whole
    assert parts["reducer"] > 0
    predicted = predict(settings, reducer("flowcut", 64), None, Prompt(answer.ledger.layers[0] - 64), "before_projector")
    assert predicted["vision"] == pytest.approx(whole, rel=0.15)
    assert predicted["llm_prefill"] == parts["llm_prefill"]


@pytest.mark.parametrize("budget", [1, 64, 575, 576])
def test_predicted_cuts_leave_the_budget(budget):
    for geometry in (LARGE, Geometry(24, 24, 12, 6, 14)):
        dropped = reducer("flowcut", budget).merges(geometry)
        assert sum(dropped) == 576 - budget
        assert all(number == 0 for number in dropped[(geometry.read + 1) % 2 :: 2] + dropped[-1:])


def test_a_tower_without_a_block_before_the_one_that_is_read_is_refused():
    with pytest.raises(ParbenchError, match="needs two vision blocks"):
        reducer("flowcut", 64).check(Geometry(24, 24, 12, 2, 14))
