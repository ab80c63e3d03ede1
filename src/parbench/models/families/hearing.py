"""Attention inside a vision tower, by token of the LLM: what is attended to, and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from parbench.models.attention import AttentionInputs
from parbench.models.listening import listening

# Attention weights held at once.
_MOST_WEIGHTS = 2**26


class Heard:
    """The attention of one vision block, collected from the calls of its kernel: one for a batch of parts, or one a window.

    Args:
        cls: Whether row 0 of each part is a CLS token. Then the attention is that of CLS, else the mean over all queries.
    """

    def __init__(self, cls: bool) -> None:
        self._cls = cls
        self._attention: list[Tensor] = []
        self._raw: list[Tensor] = []
        self._keys: list[Tensor] = []

    def take(self, inputs: AttentionInputs) -> None:
        """Take queries and keys [V, heads, T, d] of a call, for V parts or windows of T rows."""
        query, key = inputs.queries, inputs.keys
        asked = query[:, :, :1] if self._cls else query
        self._attention.append(_received(asked.double(), key.double(), inputs.scaling).transpose(0, 1).flatten(1))
        mean = asked.double().mean(2, keepdim=True)
        self._raw.append((mean @ key.double().transpose(2, 3) * inputs.scaling).mean(1).flatten())
        self._keys.append(key.transpose(0, 1).flatten(1, 2))

    def done(self) -> Rows:
        """What was heard, by row of the tower."""
        return Rows(torch.cat(self._attention, dim=1), torch.cat(self._raw), torch.cat(self._keys, dim=1))


class Rows:
    """What was heard of the rows of a tower.

    Attributes:
        attention: [heads, R] in float64.
        raw: [R] the same before the softmax, mean over heads.
        keys: [heads, R, d].
    """

    def __init__(self, attention: Tensor, raw: Tensor, keys: Tensor) -> None:
        self.attention, self.raw, self.keys = attention, raw, keys

    def of(self, members: Tensor) -> Rows:
        """The same of tokens made of some rows [N, g] each, as means."""
        members = members.to(self.keys.device)
        return Rows(self.attention[:, members].mean(-1), self.raw[members].mean(-1), self.keys[:, members].mean(2))


def _received(query: Tensor, key: Tensor, scaling: float) -> Tensor:
    """Attention that each key receives, [V, heads, T], as the mean over queries [V, heads, Q, d]."""
    total = torch.zeros(key.shape[:3], dtype=torch.float64, device=key.device)
    step = max(1, _MOST_WEIGHTS // max(1, key.shape[0] * key.shape[1] * key.shape[2]))
    for begin in range(0, query.shape[2], step):
        weights = (query[:, :, begin : begin + step] @ key.transpose(2, 3) * scaling).softmax(-1)
        total += weights.sum(2)
    return total / query.shape[2]


@contextmanager
def hearing(modules: Mapping[int, Any], *, cls: bool) -> Iterator[dict[int, Heard]]:
    """Inside the block, the attention of some vision blocks is collected.

    Args:
        modules: The attention module of each block.
        cls: See :class:`Heard`.
    """
    heard = {block: Heard(cls) for block in modules}
    takes = {modules[block]: one.take for block, one in heard.items()}
    with listening(takes):
        yield heard
