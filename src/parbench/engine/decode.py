"""Greedy generation over a padded batch of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.engine.sequence import Rows
from parbench.models.adapter import LanguageAdapter


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
) -> list[Generated]:
    """Generate greedily until each row has ended, met a stop string or reached its own limit.

    Args:
        adapter: The model.
        rows: The prompts.
        new_tokens: Each row's limit.
        until: Each row's stop strings.
        cached: Off, the whole sequence runs again for every token (methods that choose anew each time).

    Raises:
        FloatingPointError: Logits are not finite.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=adapter.language.config)
    ends = adapter.end_tokens
    batch = len(rows.mask)
    ids: list[list[int]] = [[] for _ in range(batch)]
    texts = [""] * batch
    margins = [float("inf")] * batch
    open_rows = [limit > 0 for limit in new_tokens]
    embeds, mask, positions = rows.embeds, rows.mask, rows.positions
    first: Tensor | None = None
    while any(open_rows):
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
        if not bool(wide[open_rows].isfinite().all()):
            raise FloatingPointError("the model gave logits that are not finite")
        best = wide.topk(2, dim=-1)
        chosen = wide.argmax(-1)
        for row in range(batch):
            if not open_rows[row]:
                continue
            token = int(chosen[row])
            ids[row].append(token)
            margins[row] = min(margins[row], float(best.values[row, 0] - best.values[row, 1]))
            texts[row], stopped = _decode(adapter, ids[row], until[row])
            open_rows[row] = not (stopped or token in ends or len(ids[row]) >= new_tokens[row])
        mask = torch.cat([mask, mask.new_ones(batch, 1)], dim=1)
        newest, place = adapter.embed(chosen[:, None]), positions[:, -1:] + 1
        if cached:
            embeds, positions = newest, place
        else:
            embeds, positions = torch.cat([embeds, newest], dim=1), torch.cat([positions, place], dim=1)
            cache = DynamicCache(config=adapter.language.config)
    if first is None:
        first = torch.empty(batch, 0)
    return [Generated(ids[row], texts[row], margins[row], first[row]) for row in range(batch)]


def _decode(adapter: LanguageAdapter, ids: list[int], until: tuple[str, ...]) -> tuple[str, bool]:
    text = adapter.decode(ids)
    found = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)
