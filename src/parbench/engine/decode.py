"""Greedy generation over a padded batch of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.engine.inputs import Rows
from parbench.models.adapter import LanguageAdapter

# Leaving copies the cache, so it has to make the batch smaller by a quarter.
WORTH_LEAVING = 0.75


@dataclass(frozen=True)
class Generated:
    """What a row generated.

    Attributes:
        ids: Token ids, the end token included if it came.
        text: Decoded, cut at the first stop string.
        margin: Least gap between best and second logit over the tokens.
        first_logits: [V] logits of the first token.
    """

    ids: list[int]
    text: str
    margin: float
    first_logits: Tensor


class Choosing:
    """The tokens of a batch's rows as they are chosen, the likeliest each time.

    Args:
        adapter: The model.
        new_tokens: Each row's limit.
        until: Each row's stop strings.

    Attributes:
        going: Whether each row goes on: it has not ended, met a stop string or reached its limit.
    """

    def __init__(self, adapter: LanguageAdapter, new_tokens: Sequence[int], until: Sequence[tuple[str, ...]]) -> None:
        self.adapter, self.limits, self.until = adapter, new_tokens, until
        self.ends = adapter.end_tokens
        self.going = [limit > 0 for limit in new_tokens]
        empty = torch.empty(0)
        self._rows = [Generated([], "", float("inf"), empty) for _ in new_tokens]

    def take(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Choose the next token of some rows; what those get that have ended means nothing.

        Args:
            rows: [R] numbers of rows.
            logits: [R, V].

        Returns:
            [R] token ids.

        Raises:
            FloatingPointError: Logits are not finite.
        """
        wide = logits.float()
        if not bool(wide[[self.going[row] for row in rows]].isfinite().all()):
            raise FloatingPointError("the model gave logits that are not finite")
        best, chosen = wide.topk(2, dim=-1), wide.argmax(-1)
        gaps, tokens = (best.values[:, 0] - best.values[:, 1]).tolist(), chosen.tolist()
        for place, row in enumerate(rows):
            if self.going[row]:
                self._add(row, tokens[place], gaps[place], logits[place])
        return chosen

    def _add(self, row: int, token: int, gap: float, logits: Tensor) -> None:
        before = self._rows[row]
        ids = [*before.ids, token]
        text, stopped = _decode(self.adapter, ids, self.until[row])
        first = before.first_logits if before.ids else logits
        self._rows[row] = Generated(ids, text, min(before.margin, gap), first)
        self.going[row] = not (stopped or token in self.ends or len(ids) >= self.limits[row])

    def finished(self) -> list[Generated]:
        """What the rows generated."""
        return self._rows


def greedy(
    adapter: LanguageAdapter,
    rows: Rows,
    new_tokens: Sequence[int],
    until: Sequence[tuple[str, ...]],
    cached: bool = True,
    leave: Callable[[Tensor], None] | None = None,
) -> list[Generated]:
    """Generate greedily until each row has ended, met a stop string or reached its own limit.

    Args:
        adapter: The model.
        rows: The prompts.
        new_tokens: Each row's limit.
        until: Each row's stop strings.
        cached: Off, the whole sequence runs again for every token (methods that choose anew each time).
        leave: Told which rows, of those that were there, go on; only then do rows that have ended leave the batch.

    Raises:
        FloatingPointError: Logits are not finite.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=adapter.language.config)
    choosing = Choosing(adapter, new_tokens, until)
    embeds, positions, mask = rows.embeds, rows.positions, rows.mask
    # Numbers of the rows that are in the batch.
    present = list(range(len(mask)))
    while any(choosing.going):
        hidden = adapter.language(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        chosen = choosing.take(present, adapter.logits(hidden[:, -1:])[:, 0])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        newest, next_place = adapter.embed(chosen[:, None]), positions[:, -1:] + 1
        if not cached:
            embeds, positions = torch.cat([embeds, newest], dim=1), torch.cat([positions, next_place], dim=1)
            cache = DynamicCache(config=adapter.language.config)
            continue
        embeds, positions = newest, next_place
        on = [place for place, row in enumerate(present) if choosing.going[row]]
        if leave is not None and 0 < len(on) <= WORTH_LEAVING * len(present):
            # Not on the mask's device: keys and values are where their layers are.
            stay = torch.tensor(on)
            cache.batch_select_indices(stay)
            leave(stay)
            mask, embeds, positions = mask[stay], embeds[stay], positions[stay]
            present = [present[place] for place in on]
    return choosing.finished()


def _decode(adapter: LanguageAdapter, ids: list[int], until: tuple[str, ...]) -> tuple[str, bool]:
    text = adapter.decode(ids)
    found = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
