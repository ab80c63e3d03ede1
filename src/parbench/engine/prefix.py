"""What samples of one image have in common, run through the LLM once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from parbench.engine.decode import Generated, Past, greedy
from parbench.engine.install import install
from parbench.engine.layers import Trace
from parbench.engine.sequence import Line, pad
from parbench.models.adapter import LlavaAdapter
from parbench.reducers.none import Unreduced


@dataclass(frozen=True)
class Beginnings:
    """A batch's lines cut behind the last visual token.

    Attributes:
        first: The beginnings, each once.
        owner: For each line, the number of its beginning.
        rest: What follows in each line.
    """

    first: list[Line]
    owner: list[int]
    rest: list[Line]


def shared_beginnings(lines: Sequence[Line], images: Sequence[Sequence[int]]) -> Beginnings | None:
    """Beginnings that several lines share, given the numbers of each line's images; None if there are none to gain from."""
    first: list[Line] = []
    owner, rest = [], []
    numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for line, shown in zip(lines, images, strict=True):
        before, behind = line.split()
        if not len(before.ids) or not len(behind.ids):
            return None
        key = (tuple(shown), tuple(before.ids.tolist()))
        if key not in numbers:
            numbers[key] = len(first)
            first.append(before)
        owner.append(numbers[key])
        rest.append(behind)
    return Beginnings(first, owner, rest) if len(first) < len(lines) else None


def after_beginnings(
    adapter: LlavaAdapter, beginnings: Beginnings, new_tokens: Sequence[int], until: Sequence[tuple[str, ...]]
) -> tuple[list[Generated], Trace]:
    """Run the beginnings, then the rest of all lines on their keys and values; the trace is that of whole lines.

    The visual tokens are final when they enter the LLM, so that nothing has to act inside it.
    """
    from transformers import DynamicCache

    nothing = Unreduced(name="none")
    begin, owner = pad(adapter, beginnings.first), torch.tensor(beginnings.owner, device=adapter.device)
    cache = DynamicCache(config=adapter.language.config)
    with install(adapter, nothing, begin) as before:
        adapter.language(
            inputs_embeds=begin.embeds, attention_mask=begin.mask, position_ids=begin.positions, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
    cache.batch_select_indices(owner)
    past, rows = Past(cache, begin.mask[owner]), pad(adapter, beginnings.rest)
    with install(adapter, nothing, rows) as trace:
        generated = greedy(adapter, rows, new_tokens, until, past=past, leave=trace.leave)
    return generated, trace.after(before, owner)
