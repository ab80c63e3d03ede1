"""Attention inside a vision tower, by token of the LLM: what is attended to, and keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parbench.models.attention import AttentionInputs, received
from parbench.models.listening import listening


class Heard:
    """The attention of one vision block, collected from the calls of its kernel: one for a batch of parts, or one a window.

    Args:
        cls: Whether row 0 of each part is a CLS token, whose attention is collected too.
    """

    def __init__(self, cls: bool) -> None:
        self._cls = cls
        self._received: list[Tensor] = []
        self._of_cls: list[Tensor] = []
        self._raw: list[Tensor] = []
        self._keys: list[Tensor] = []

    def take(self, inputs: AttentionInputs) -> None:
        """Take queries and keys [V, heads, T, d] of a call, for V parts or windows of T rows."""
        query, key = inputs.queries, inputs.keys
        self._received.append(received(query, key, inputs.scaling).transpose(0, 1).flatten(1))
        asked = query[:, :, :1] if self._cls else query
        if self._cls:
            self._of_cls.append(received(asked, key, inputs.scaling).transpose(0, 1).flatten(1))
        mean = asked.double().mean(2, keepdim=True)
        self._raw.append((mean @ key.double().transpose(2, 3) * inputs.scaling).mean(1).flatten())
        self._keys.append(key.transpose(0, 1).flatten(1, 2))

    def done(self) -> Rows:
        """What was heard, by row of the tower."""
        of_cls = torch.cat(self._of_cls, dim=1) if self._cls else None
        return Rows(torch.cat(self._received, dim=1), of_cls, torch.cat(self._raw), torch.cat(self._keys, dim=1))


class Rows(NamedTuple):
    """What was heard, by row of the tower or by token.

    Attributes:
        received: [heads, R] in float64, the attention that each receives, mean over all queries of its part.
        of_cls: [heads, R] in float64, the attention of CLS; None without.
        raw: [R] in float64, the attention of CLS, or without CLS the received one, before the softmax, mean over heads.
        keys: [heads, R, d].
    """

    received: Tensor
    of_cls: Tensor | None
    raw: Tensor
    keys: Tensor

    def of(self, members: Tensor) -> Rows:
        """The same for tokens made of some rows [N, g] each, as means."""
        members = members.to(self.keys.device)
        of_cls = None if self.of_cls is None else self.of_cls[:, members].mean(-1)
        attention, raw = self.received[:, members].mean(-1), self.raw[members].mean(-1)
        return Rows(attention, of_cls, raw, self.keys[:, members].mean(2))


@contextmanager
def hearing(modules: Mapping[int, Any], *, cls: bool) -> Iterator[dict[int, Heard]]:
    """Inside the block, the attention of some vision blocks is collected.

    Args:
        modules: The attention module of each block.
        cls: See :class:`Heard`.
    """
    # In a small tower two blocks of a method may be the same.
    heard = {module: Heard(cls) for module in modules.values()}
    with listening({module: one.take for module, one in heard.items()}):
        yield {block: heard[module] for block, module in modules.items()}
