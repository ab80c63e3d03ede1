"""Shared prefixes: the common beginning of an image's prompts runs through the LLM once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parbench.engine.decode import WORTH_LEAVING, Choosing, Generated
from parbench.engine.hooks.install import install
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Line, Lines, Rows, pad
from parbench.engine.trace import Trace
from parbench.models.adapter import ModelAdapter
from parbench.reducers import LayerReducer

if TYPE_CHECKING:
    from parbench.engine.sites.base import Site

# Owners of keys that belong to no single line: all lines of the row, or none.
_ALL, _NOBODY = -1, -2
# Attention kernels that support any mask.
_KERNELS = ("sdpa", "eager")


def can_share_prefixes(adapter: ModelAdapter) -> bool:
    """Whether the model's attention kernel supports the masks that this needs, and the model's layers all see one mask."""
    return adapter.family.shares_prefixes and not adapter.family.slides and adapter.language.config._attn_implementation in _KERNELS


@dataclass(frozen=True)
class SharedPrefixes:
    """The lines of a batch, split after their last visual token.

    Attributes:
        first: The prefixes, each once.
        owner: For each line, the index of its prefix.
        rest: For each line, the part after the prefix.
    """

    first: list[Line]
    owner: list[int]
    rest: list[Line]


def shared_prefixes(lines: Sequence[Line], images: Sequence[Sequence[int]]) -> SharedPrefixes | None:
    """The shared prefixes of lines, from the indices of each line's images; None if sharing gains nothing."""
    first: list[Line] = []
    owner, rest = [], []
    numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    for line, shown in zip(lines, images, strict=True):
        before, after = line.split()
        if not len(before.ids) or not len(after.ids):
            return None
        key = (tuple(shown), tuple(before.ids.tolist()))
        if key not in numbers:
            numbers[key] = len(first)
            first.append(before)
        owner.append(numbers[key])
        rest.append(after)
    return SharedPrefixes(first, owner, rest) if len(first) < len(lines) else None


def after_prefixes(
    adapter: ModelAdapter, lines: Lines, prefixes: SharedPrefixes, site: Site[Any] | None = None
) -> tuple[list[Generated], Trace]:
    """Run the prefixes, then the rest of all lines on their keys and values. The trace is that of whole lines.

    For methods that do not act inside the LLM, or whose ``site`` acts there on prefixes alone.
    """
    begin = pad(adapter, prefixes.first)
    packed = _Packed(adapter, begin, prefixes.owner)
    with install(adapter, site, begin) as before:
        packed.begin(begin)
    if before.left is not None:
        packed.whose = torch.where(before.left.bool(), _ALL, _NOBODY)
    choosing = Choosing(adapter, lines.limits, lines.until)
    feed = {number: (line.ids, line.position_ids) for number, line in enumerate(prefixes.rest)}
    rows = packed.rows(feed)
    with install(adapter, None, rows.rows) as trace:
        while feed:
            chosen = choosing.take(rows.asked, adapter.logits(packed.run(rows))).cpu()
            feed = {
                number: (chosen[place : place + 1], feed[number][1][-1:] + 1)
                for place, number in enumerate(rows.asked)
                if choosing.going[number]
            }
            if feed:
                packed.leave(feed.keys())
                rows = packed.rows(feed)
    owner = torch.tensor(prefixes.owner, device=adapter.device)
    own = torch.tensor([len(line.ids) for line in prefixes.rest], device=adapter.device)
    return choosing.finished(), _of_lines(trace.after(before, owner, own), before, begin, owner)


def _of_lines(found: Trace, before: Trace, begin: Rows, owner: Tensor) -> Trace:
    """A trace with what a method chose and computed in the prefixes, for each line as if it had run alone."""
    if before.origin is None:
        return found
    images = (begin.image.amax(1) + 1).clamp(min=0)
    firsts = images.cumsum(0) - images
    which = [int(firsts[row]) + number for row in owner.tolist() for number in range(int(images[row]))]
    return replace(found, origin=before.origin.of_images(which), flops=before.flops * len(which) // int(images.sum()))


def up_to_first_stage(
    adapter: ModelAdapter,
    site: Site[LayerReducer],
    lines: Lines,
    prefixes: SharedPrefixes,
) -> tuple[list[Generated], Trace]:
    """Run all lines, sharing their prefixes in the layers before the method's first stage. The trace is that of whole lines.

    Before that stage, a prefix does not depend on what follows. It runs once, followed by the rest of its lines in the same row.
    From the stage on, each line has its own row.
    """
    begin = pad(adapter, prefixes.first)
    packed = _Packed(adapter, begin, prefixes.owner)
    choosing = Choosing(adapter, lines.limits, lines.until)
    present = list(range(len(lines.lines)))
    feed = {number: (line.ids, line.position_ids) for number, line in enumerate(prefixes.rest)}
    side = packed.rows(feed)
    embeds = torch.cat([begin.embeds, side.rows.embeds], dim=1)
    positions = torch.cat([begin.positions, side.rows.positions], dim=1)
    whole = replace(pad(adapter, lines.lines), streams=_beside(begin.streams, side.rows.embeds))
    with install(adapter, site, whole, lambda: packed.place(present, embeds.shape[1])) as trace:
        while True:
            hidden = packed.forward(embeds, positions, side.whose)
            chosen = choosing.take(present, adapter.logits(hidden[:, -1]))
            on = [place for place, line in enumerate(present) if choosing.going[line]]
            if not on:
                break
            ids = chosen.cpu()
            feed = {line: (ids[place : place + 1], feed[line][1][-1:] + 1) for place, line in enumerate(present)}
            if len(on) <= WORTH_LEAVING * len(present):
                # Keys and values are on the devices of their layers, not on that of the embeddings.
                stay = torch.tensor(on)
                # Before the first stage, a prefix is stored once, even if lines end.
                for layer in packed.cache.layers[site.reducer.stages(adapter.geometry)[0] :]:
                    layer.batch_select_indices(stay)
                trace.leave(stay)
                present = [present[place] for place in on]
            side = packed.rows({line: feed[line] for line in present})
            embeds, positions = side.rows.embeds, side.rows.positions
    return choosing.finished(), trace


def _beside(streams: Tensor | None, embeds: Tensor) -> Tensor | None:
    """The streams [layers, G, b, d] of prefixes, with nothing for the tokens [G, n, d] behind them."""
    if streams is None:
        return None
    return torch.cat([streams, streams.new_zeros(len(streams), *embeds.shape)], dim=2)


@dataclass(frozen=True)
class _Side:
    """The next tokens of several lines, with one row per prefix.

    Attributes:
        rows: The input rows of the LLM.
        whose: [G, L] the line of each token.
        asked: The lines, row by row.
        last: Row and column of the last token of each line.
    """

    rows: Rows
    whose: Tensor
    asked: list[int]
    last: tuple[Tensor, Tensor]


class _Packed:
    """Keys and values of prefixes, each stored once, followed by those of its lines.

    The tokens of a line attend to its prefix and to earlier tokens of the line. Nothing is copied per line, and the lines of a row
    run as one sequence.
    """

    def __init__(self, adapter: ModelAdapter, begin: Rows, owner: Sequence[int]) -> None:
        from transformers import DynamicCache

        self.adapter = adapter
        self.cache = DynamicCache(config=adapter.language.config)
        self.whose = torch.where(begin.mask.bool(), _ALL, _NOBODY)
        self.owner = torch.tensor(owner, device=adapter.device)
        self.lines = [[line for line, of in enumerate(owner) if of == row] for row in range(len(begin.mask))]

    def begin(self, begin: Rows) -> None:
        """Run the prefixes."""
        self.adapter.language(
            inputs_embeds=begin.embeds,
            attention_mask=begin.mask,
            position_ids=self.adapter.for_language(begin.positions),
            past_key_values=self.cache,
            use_cache=True,
        )

    def rows(self, feed: Mapping[int, tuple[Tensor, Tensor]]) -> _Side:
        """Append token ids and positions of lines, each [n], to their prefixes."""
        here = [[line for line in lines if line in feed] for lines in self.lines]

        def side_by_side(part: Callable[[int], Tensor], empty: int) -> Tensor:
            nothing = part(next(iter(feed)))[:0]
            rows = [torch.cat([nothing, *map(part, lines)]) for lines in here]
            return pad_sequence(rows, batch_first=True, padding_value=empty).to(self.adapter.device)

        ids = side_by_side(lambda line: feed[line][0], 0)
        position_ids = side_by_side(lambda line: feed[line][1], 0)
        whose = side_by_side(lambda line: torch.full_like(feed[line][0], line), _NOBODY)
        nothing = torch.full_like(ids, -1)
        rows = Rows(self.adapter.embed(ids), (whose >= 0).long(), position_ids, nothing, nothing, position_ids[:, -1] + 1)
        lasts = [(row, end - 1) for row, lines in enumerate(here) for end in accumulate(len(feed[line][0]) for line in lines)]
        last = torch.tensor(lasts, device=ids.device)
        return _Side(rows, whose, [line for lines in here for line in lines], (last[:, 0], last[:, 1]))

    def run(self, side: _Side) -> Tensor:
        """[R, d] the last hidden state of each appended line."""
        return self.forward(side.rows.embeds, side.rows.positions, side.whose)[side.last]

    def forward(self, embeds: Tensor, positions: Tensor, whose: Tensor) -> Tensor:
        """Hidden states of the LLM for further tokens [G, n] of lines, or for the prefixes [G, b] followed by them."""
        self.whose = torch.cat([self.whose, whose], dim=1)
        length = embeds.shape[1]
        entering = self.whose[:, -length:]
        seen = (self.whose[:, None] == _ALL) | (self.whose[:, None] == entering[..., None])
        seen[..., -length:] &= torch.ones(length, length, dtype=torch.bool, device=seen.device).tril()
        found: Tensor = self.adapter.language(
            inputs_embeds=embeds,
            attention_mask=self._for_kernel(seen[:, None]),
            position_ids=self.adapter.for_language(positions),
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        return found

    def place(self, lines: Sequence[int], length: int) -> Packed:
        """The places of the tokens of some lines among the last ``length`` columns."""
        row = self.owner[torch.tensor(lines, device=self.owner.device)]
        whose = self.whose[row, -length:]
        mine = (whose == _ALL) | (whose == torch.tensor(lines, device=whose.device)[:, None])
        tokens = mine.sum(1)
        column = mine.to(torch.uint8).argsort(dim=1, stable=True)[:, -int(tokens.max()) :]
        return Packed(row, column, tokens)

    def _for_kernel(self, seen: Tensor) -> Tensor:
        if self.adapter.language.config._attn_implementation == "sdpa":
            return seen
        dtype = self.adapter.dtype
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)

    def leave(self, going: Collection[int]) -> None:
        """Remove rows whose lines have all ended, if that makes the batch small enough to pay off."""
        stay = [row for row, lines in enumerate(self.lines) if any(line in going for line in lines)]
        if len(stay) <= WORTH_LEAVING * len(self.lines):
            index = torch.tensor(stay)
            self.cache.batch_select_indices(index)
            self.whose = self.whose[index]
            self.lines = [self.lines[row] for row in stay]
