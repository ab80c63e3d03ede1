"""Greedy generation over a padded batch of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.engine.inputs import Rows
from parbench.models.adapter import LanguageAdapter

# Removing rows copies the cache, so it is only done if the batch becomes a quarter smaller.
WORTH_LEAVING = 0.75


@dataclass(frozen=True)
class Generated:
    """The output of a row.

    Attributes:
        ids: Generated token ids, including the end token, if any.
        text: Decoded text up to the first stop string.
        margin: Difference of the two highest logits, minimum over the tokens.
        first_logits: [V] logits of the first token.
    """

    ids: list[int]
    text: str
    margin: float
    first_logits: Tensor


class Choosing:
    """Greedy choice of the tokens of a batch's rows.

    Args:
        adapter: The model.
        new_tokens: Maximum new tokens of each row.
        until: Stop strings of each row.

    Attributes:
        going: Whether each row continues: no end token, stop string or limit yet.
    """

    def __init__(self, adapter: LanguageAdapter, new_tokens: Sequence[int], until: Sequence[tuple[str, ...]]) -> None:
        self.adapter, self.limits, self.until = adapter, new_tokens, until
        self.ends = adapter.end_tokens
        self.going = [limit > 0 for limit in new_tokens]
        empty = torch.empty(0)
        self._rows = [Generated([], "", float("inf"), empty) for _ in new_tokens]

    def take(self, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Choose the next token of some rows. For finished rows the token is arbitrary.

        Args:
            rows: [R] indices of the rows.
            logits: [R, V].

        Returns:
            [R] token ids.

        Raises:
            FloatingPointError: Logits are not finite.
        """
        wide = logits.float()
        if not bool(wide[[self.going[row] for row in rows]].isfinite().all()):
            raise FloatingPointError("the logits of the model are not finite")
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
        """The outputs of the rows."""
        return self._rows


def greedy(
    adapter: LanguageAdapter,
    rows: Rows,
    new_tokens: Sequence[int],
    until: Sequence[tuple[str, ...]],
    cached: bool = True,
    leave: Callable[[Tensor], None] | None = None,
) -> list[Generated]:
    """Generate greedily until each row has an end token, a stop string, or reaches its limit.

    Args:
        adapter: The model.
        rows: The prompts.
        new_tokens: Maximum new tokens of each row.
        until: Stop strings of each row.
        cached: Whether decoding uses the KV cache. False: the whole sequence runs again for every token.
        leave: Called with the indices of the remaining rows when finished rows are removed from the batch. None: none are removed.

    Raises:
        FloatingPointError: Logits are not finite.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=adapter.language.config)
    choosing = Choosing(adapter, new_tokens, until)
    embeds, positions, mask = rows.embeds, rows.positions, rows.mask
    following = rows.next[:, None]
    # Indices of the rows in the batch.
    present = list(range(len(mask)))
    while any(choosing.going):
        hidden = adapter.language(
            inputs_embeds=embeds,
            attention_mask=adapter.whole_mask(embeds, mask, positions, cache, rows.image),
            position_ids=adapter.for_language(positions),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        chosen = choosing.take(present, adapter.logits(hidden[:, -1:])[:, 0])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        newest = adapter.embed(chosen[:, None])
        if not cached:
            embeds, positions = torch.cat([embeds, newest], dim=1), torch.cat([positions, following], dim=1)
            following = following + 1
            cache = DynamicCache(config=adapter.language.config)
            continue
        embeds, positions, following = newest, following, following + 1
        on = [place for place, row in enumerate(present) if choosing.going[row]]
        if leave is not None and 0 < len(on) <= WORTH_LEAVING * len(present):
            # Keys and values are on the devices of their layers, not on that of the mask.
            stay = torch.tensor(on)
            cache.batch_select_indices(stay)
            leave(stay)
            mask, embeds, positions, following = mask[stay], embeds[stay], positions[stay], following[stay]
            present = [present[place] for place in on]
    return choosing.finished()


def _decode(adapter: LanguageAdapter, ids: list[int], until: tuple[str, ...]) -> tuple[str, bool]:
    text = adapter.decode(ids)
    found = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
