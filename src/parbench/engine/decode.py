"""Greedy generation over a padded batch of embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parbench.engine.sequence import Rows
from parbench.models.adapter import LanguageAdapter

# Leaving copies the cache, so it has to make the batch smaller by a quarter.
_WORTH_LEAVING = 0.75


@dataclass(frozen=True)
class Past:
    """What of a batch ran before.

    Attributes:
        cache: Keys and values of its B rows.
        mask: [B, P] 1 where a token is.
    """

    cache: Any
    mask: Tensor


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


def greedy(
    adapter: LanguageAdapter,
    rows: Rows,
    new_tokens: Sequence[int],
    until: Sequence[tuple[str, ...]],
    cached: bool = True,
    past: Past | None = None,
    leave: Callable[[Tensor], None] | None = None,
) -> list[Generated]:
    """Generate greedily until each row has ended, met a stop string or reached its own limit.

    Args:
        adapter: The model.
        rows: The prompts, or what follows ``past`` in them.
        new_tokens: Each row's limit.
        until: Each row's stop strings.
        cached: Off, the whole sequence runs again for every token (methods that choose anew each time).
        past: What ran before.
        leave: Told which rows, of those that were there, go on; only then do rows that have ended leave the batch.

    Raises:
        FloatingPointError: Logits are not finite.
    """
    from transformers import DynamicCache

    cache = past.cache if past else DynamicCache(config=adapter.language.config)
    ends = adapter.end_tokens
    batch = len(rows.mask)
    ids: list[list[int]] = [[] for _ in range(batch)]
    texts = [""] * batch
    margins = [float("inf")] * batch
    embeds, positions = rows.embeds, rows.positions
    mask = torch.cat([past.mask, rows.mask], dim=1) if past else rows.mask
    first: Tensor | None = None
    # Numbers of the rows that are in the batch, and whether each goes on.
    present = list(range(batch))
    going = [limit > 0 for limit in new_tokens]
    while any(going):
        hidden = adapter.language(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits = adapter.logits(hidden[:, -1:])[:, 0]
        if first is None:
            first = logits
        wide = logits.float()
        # A row that has ended may hold anything; only open ones are looked at.
        if not bool(wide[going].isfinite().all()):
            raise FloatingPointError("the model gave logits that are not finite")
        best, chosen = wide.topk(2, dim=-1), wide.argmax(-1)
        gaps, tokens = (best.values[:, 0] - best.values[:, 1]).tolist(), chosen.tolist()
        for place, row in enumerate(present):
            if not going[place]:
                continue
            ids[row].append(tokens[place])
            margins[row] = min(margins[row], gaps[place])
            texts[row], stopped = _decode(adapter, ids[row], until[row])
            going[place] = not (stopped or tokens[place] in ends or len(ids[row]) >= new_tokens[row])
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        newest, next_place = adapter.embed(chosen[:, None]), positions[:, -1:] + 1
        if not cached:
            embeds, positions = torch.cat([embeds, newest], dim=1), torch.cat([positions, next_place], dim=1)
            cache = DynamicCache(config=adapter.language.config)
            continue
        embeds, positions = newest, next_place
        if leave is not None and 0 < sum(going) <= _WORTH_LEAVING * len(going):
            stay = torch.tensor([place for place, on in enumerate(going) if on], device=mask.device)
            cache.batch_select_indices(stay)
            leave(stay)
            mask, embeds, positions = mask[stay], embeds[stay], positions[stay]
            present = [row for row, on in zip(present, going, strict=True) if on]
            going = [True] * len(present)
    if first is None:
        first = torch.empty(batch, 0)
    return [Generated(ids[row], texts[row], margins[row], first[row]) for row in range(batch)]


def _decode(adapter: LanguageAdapter, ids: list[int], until: tuple[str, ...]) -> tuple[str, bool]:
    text = adapter.decode(ids)
    found = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
