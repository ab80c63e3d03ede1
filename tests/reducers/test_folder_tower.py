"""FOLDER inside the tower: one block, several rounds, and tokens on which CLS looks stay apart."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from helpers import reducer, sample
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView
from parbench.models.geometry import Geometry

LARGE = Geometry(rows=24, columns=24, layers=32, blocks=24, patch=14)


@torch.inference_mode()
def encode(adapter, pixels, method):
    return adapter.encode(pixels, merger=partial(method.merge, geometry=adapter.geometry))


def block(number, looked_at=(), seed=0):
    """A block of LLaVA-1.5's tower in which CLS attends to some tokens and hardly to the others."""
    keys = torch.randn(1, 577, 8, generator=torch.Generator().manual_seed(seed))
    keys[..., 0] = 0
    keys[0, list(looked_at), 0] = 20
    queries = torch.zeros(1, 577, 8)
    queries[0, 0, 0] = 3
    return BlockView(number, queries, keys, keys, 1, torch.tensor([577]), torch.ones(1, 577))


@pytest.mark.parametrize("budget", [1, 32, 64, 144, 192, 288, 575])
def test_one_block_folds_to_any_budget(budget):
    method = reducer("folder-tower", budget)
    method.check(LARGE)
    assert method.merges(LARGE) == [0] * 22 + [576 - budget]
    assert method.merge(block(21), LARGE).counts.tolist() == [577]
    assert method.merge(block(22), LARGE).counts.tolist() == [budget + 1]


def test_what_cls_looks_at_is_folded_last():
    """Three even tokens are alike and like token 33, so they are the first to go without attention."""
    alike = {2, 100, 416}
    method = reducer("folder-tower", 400)
    protected, ignored = (
        set(dataclasses.replace(method, alpha=alpha).merge(block(22, [*alike, 33]), LARGE).source[0].tolist())
        for alpha in (5.0, 0.0)
    )
    assert not protected & alike
    assert alike <= ignored
    assert 0 not in protected | ignored


def test_an_image_folds_alike_in_any_batch(adapter, scenes):
    pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
    method = reducer("folder-tower", 64)
    together = encode(adapter, pixels, method)
    assert together.lengths.tolist() == [[577] * 5 + [65] * 2] * 2
    for image in range(2):
        alone = encode(adapter, pixels[image : image + 1], method)
        assert torch.equal(alone.owner[0], together.owner[image])
        assert torch.allclose(alone.features[0], together.features[image], atol=1e-4)


def test_the_work_of_folding_is_counted(adapter, scenes):
    (answer,) = Engine(adapter, reducer("folder-tower", 64)).answer([sample(adapter, scenes[0])])
    # The first of the rounds compares 288 tokens with 288, all keys being as wide as a head.
    vision = adapter.model.config.vision_config
    first = 2 * 289 * 288 * vision.hidden_size // vision.num_attention_heads
    assert first < answer.ledger.reducer_flops < 2 * first


def test_a_negative_weight_is_refused():
    with pytest.raises(ParbenchError, match="is negative: use 0 or more"):
        reducer("folder-tower", alpha=-1.0)
