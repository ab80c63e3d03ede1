"""Attention for training on a processor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tiny.attention import _Rowwise


@pytest.mark.parametrize("count", [5, 128, 300])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_equal_pytorchs(count, masked):
    generator = torch.Generator().manual_seed(count)
    drawn = [torch.randn(2, 3, count, 8, generator=generator) for _ in range(4)]
    mask = None
    if masked:
        seen = (torch.rand(2, 1, count, count, generator=generator) < 0.5).tril() | torch.eye(count, dtype=torch.bool)
        mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    found = []
    for attend in (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.3),
        lambda q, k, v: _Rowwise.apply(q, k, v, mask, 0.3, masked),
    ):
        inputs = [each.clone().requires_grad_() for each in drawn[:3]]
        out = attend(*inputs)
        out.backward(drawn[3])
        found.append([out.detach(), *(each.grad for each in inputs)])
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, atol=2e-6, rtol=1e-5)
