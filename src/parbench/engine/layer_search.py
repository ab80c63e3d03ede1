"""Searches on samples: the layer at which visual tokens can be withdrawn (VTW), and heads that can be pruned (YOPO)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from parbench.engine.decode import greedy
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Rows
from parbench.engine.sites import site_of
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter
from parbench.models.attention import AttentionInputs
from parbench.models.listening import listening
from parbench.reducers import Reducer
from parbench.reducers.vtw import VTW


def next_logits(adapter: LanguageAdapter, reducer: Reducer | None, rows: Rows) -> Tensor:
    """Logits [B, V] of the token after each prompt, with the method in the LLM; None for the unmodified LLM."""
    with install(adapter, site_of(reducer, adapter.geometry) if reducer else None, rows):
        generated = greedy(adapter, rows, [1] * len(rows.mask), [()] * len(rows.mask))
    return torch.stack([row.first_logits for row in generated])


@torch.inference_mode()
def divergences(adapter: LanguageAdapter, method: VTW, rows: Rows, layers: Sequence[int]) -> Tensor:
    """KL(withdrawn || full) of the token after each prompt, [B, len(layers)] in float64.

    Args:
        adapter: The model.
        method: The method with its other settings; its budget is ignored.
        rows: The prompts.
        layers: Candidates for K.
    """
    full = next_logits(adapter, None, rows).double().log_softmax(-1)
    found = []
    for layer in layers:
        candidate = dataclasses.replace(method, budget=None, layer=layer)
        withdrawn = next_logits(adapter, candidate, rows).double().log_softmax(-1)
        found.append((withdrawn.exp() * (withdrawn - full)).sum(-1))
    return torch.stack(found, dim=1)


def first_below(divergence: Tensor, layers: Sequence[int], eta: float) -> int:
    """The smallest candidate layer whose mean divergence over samples [n, len(layers)] is at most ``eta``.

    The release averages over 20 samples, tries layers from 5 on, and uses 0.003 for the 7B model and 0.0005 for the 13B model.

    Raises:
        ParbenchError: There is none.
    """
    mean = divergence.mean(0)
    good = [layer for layer, value in zip(layers, mean.tolist(), strict=True) if value <= eta]
    if not good:
        raise ParbenchError(f"eta={eta} is below the divergence of every layer: use at least {float(mean.min()):.3g}")
    return min(good)


@torch.inference_mode()
def visual_share(adapter: LanguageAdapter, rows: Rows) -> Tensor:
    """Ratio of attention to visual tokens and to text, summed over a row's queries: [B, layers, heads] in float64."""
    found: list[Tensor] = []
    batch, length = rows.mask.shape
    every = torch.arange(length, device=rows.mask.device).expand(batch, -1)
    real, image = rows.mask.bool(), rows.image >= 0

    def measure(inputs: AttentionInputs) -> None:
        weights = inputs.rows(rows.mask, torch.arange(batch, device=every.device), every) * real[:, None, :, None]
        mass = weights.sum(2)
        found.append((mass * image[:, None]).sum(-1) / (mass * (real & ~image)[:, None]).sum(-1))

    with listening({layer.self_attn: measure for layer in adapter.language.layers}):
        next_logits(adapter, None, rows)
    return torch.stack(found, dim=1)


def kept_heads(share: Tensor, threshold: float, majority: int) -> tuple[Tensor, Tensor]:
    """YOPO's rule: a head is kept if its share is above the threshold in more than ``majority`` samples, or in layers 0 and 1.

    Args:
        share: [n, layers, heads], see ``visual_share``.
        threshold: Shares at or below it do not count. A higher threshold keeps fewer heads. The release uses 0.2, 0.077 or 0.035
            for the 13B model, whose files of masks are named after the 10, 20 or 30 heads of 40 that a layer keeps on average.
        majority: The release uses 40 of 100 samples.

    Returns:
        Votes [layers, heads], and whether each head is kept [layers, heads].
    """
    votes = share > threshold
    votes[:, :2] = True
    return votes.sum(0), votes.sum(0) > majority
