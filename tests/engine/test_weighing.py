"""Attention weighted by the sizes of merged tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from helpers import reducer, sample
from parbench.engine.engine import Engine
from parbench.engine.hooks.weighing import log_sizes, weighted_mask
from parbench.errors import ParbenchError


def attend(queries, keys, values, mask):
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


@pytest.mark.parametrize("kind", ["none", "bool", "added"])
@pytest.mark.parametrize("queries", [5, 1])
def test_a_size_counts_like_as_many_equal_tokens(kind, queries):
    """Sizes of powers of two, whose logs half precision rounds the least."""
    torch.manual_seed(0)
    sizes, length = torch.tensor([[1, 4, 1, 2, 1]]), 5
    query, key, value = (torch.randn(1, 2, count, 8) for count in (queries, length, length))
    seen = torch.ones(queries, length, dtype=torch.bool).tril(length - queries)[None, None]
    given = {"none": None, "bool": seen, "added": torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)}[kind]
    mask = weighted_mask(given, log_sizes(sizes), torch.zeros(1, queries, 16))
    ours = attend(query, key, value, mask)
    many = (part.repeat_interleave(sizes[0], dim=2) for part in (key, value))
    assert torch.allclose(ours, attend(query, *many, seen.repeat_interleave(sizes[0], dim=3)), atol=1e-3)


def test_sizes_of_one_leave_the_mask_alone():
    assert log_sizes(torch.ones(2, 3)) is None


def test_a_layer_with_few_keys_gets_the_weights_of_the_last():
    added = torch.tensor([[3.0, 0.0, 1.0, 0.0]])
    mask = weighted_mask(torch.ones(1, 1, 1, 2, dtype=torch.bool), added, torch.zeros(1, 1, 8))
    assert mask.flatten().tolist() == [1.0, 0.0]


def test_a_kernel_without_masks_is_refused(adapter, scenes, monkeypatch):
    monkeypatch.setattr(adapter.language.config, "_attn_implementation", "flash_attention_2")
    engine, asked = Engine(adapter, reducer("pact"), share=False), sample(adapter, scenes[0], max_new_tokens=1)
    with pytest.raises(ParbenchError, match=r"flash_attention_2 cannot weight .* use model\.attention=sdpa or eager"):
        engine.answer([asked])


def test_weights_matter_and_kernels_agree(adapter, scenes, monkeypatch):
    """One prompt leaves the batch early, so that the others go on in fewer rows."""
    asked = [sample(adapter, scenes[number], number, max_new_tokens=tokens) for number, tokens in ((0, 1), (15, 6), (30, 6))]
    plain = Engine(adapter, reducer("pact", proportional=False), share=False).answer(asked)
    found = Engine(adapter, reducer("pact"), share=False).answer(asked)
    monkeypatch.setattr(adapter.language.config, "_attn_implementation", "eager")
    eager = Engine(adapter, reducer("pact"), share=False).answer(asked)
    assert [one.margin for one in found] == pytest.approx([one.margin for one in eager], abs=2e-3)
    assert [one.kept for one in found] == [one.kept for one in plain]
    assert all(abs(one.margin - other.margin) > 1e-3 for one, other in zip(found, plain, strict=True))


def test_a_composed_method_weights_as_its_part_inside():
    assert reducer("visionzip+pact", 128).weighs_sizes
    assert not reducer("visionzip+fastv", 128).weighs_sizes
