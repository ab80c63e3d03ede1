"""The search for the layer at which visual tokens may be withdrawn (VTW)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from parbench.engine.decode import greedy
from parbench.engine.install import install
from parbench.engine.sequence import Rows
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter
from parbench.reducers.base import Reducer
from parbench.reducers.none import Unreduced
from parbench.reducers.vtw import VTW


def next_logits(adapter: LanguageAdapter, reducer: Reducer, rows: Rows) -> Tensor:
    """Logits [B, V] of the token after each prompt, with the reducer in the LLM."""
    with install(adapter, reducer, rows):
        generated = greedy(adapter, rows, [1] * len(rows.mask), [()] * len(rows.mask))
    return torch.stack([row.first_logits for row in generated])


@torch.inference_mode()
def divergences(adapter: LanguageAdapter, method: VTW, rows: Rows, layers: Sequence[int]) -> Tensor:
    """KL(withdrawn || full) of the token after each prompt, [B, len(layers)] in float64.

    Args:
        adapter: The model.
        method: Its other settings; the budget does not count.
        rows: The prompts.
        layers: Candidates for K.
    """
    full = next_logits(adapter, Unreduced(name="none"), rows).double().log_softmax(-1)
    found = []
    for layer in layers:
        candidate = dataclasses.replace(method, budget=None, layer=layer)
        withdrawn = next_logits(adapter, candidate, rows).double().log_softmax(-1)
        found.append((withdrawn.exp() * (withdrawn - full)).sum(-1))
    return torch.stack(found, dim=1)


def first_below(divergence: Tensor, layers: Sequence[int], eta: float) -> int:
    """The smallest of the candidates whose mean divergence over samples [n, len(layers)] is at most ``eta``.

    The release averages over 20 samples, tries layers from 5 on, and takes 0.003 for the 7B model and 0.0005 for the 13B one.

    Raises:
        ParbenchError: None is.
    """
    mean = divergence.mean(0)
    good = [layer for layer, value in zip(layers, mean.tolist(), strict=True) if value <= eta]
    if not good:
        raise ParbenchError(f"eta={eta} is below the divergence of every layer; the least is {float(mean.min()):.3g}")
    return min(good)
