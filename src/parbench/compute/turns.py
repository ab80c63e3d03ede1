"""Costs of the turns of a conversation, whose images and earlier turns may be in memory already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from parbench.compute.flops import Costs, sample_flops
from parbench.engine.ledger import SampleLedger


@dataclass(frozen=True)
class Turn:
    """A turn, and what earlier ones left in memory.

    Attributes:
        number: Its number in the conversation, from 1.
        fresh: Tokens of its prompt that are not in the KV cache of the turn before; None if that cache is not used: the visual
            tokens are chosen anew, or it is the first turn.
    """

    number: int
    fresh: int | None = None


def turn_flops(cost: Costs, ledger: SampleLedger, turn: Turn) -> dict[str, int]:
    """FLOPs of a turn by part, as :func:`parbench.compute.flops.sample_flops` has them.

    The vision tower runs once a conversation: its features stay in memory even if tokens are chosen anew. On a cache that is
    used on, only fresh tokens run through the LLM, and nothing is chosen or projected.
    """
    parts = sample_flops(cost, ledger)
    if turn.number > 1:
        parts |= {"vision": 0}
    if turn.fresh is not None:
        fresh = turn.fresh
        prefill = cost.extend((fresh, length) for length in ledger.held) + cost.head
        parts |= {"projector": 0, "reducer": 0, "llm_prefill": prefill}
    return {**parts, "total": sum(value for name, value in parts.items() if name != "total")}


def kv_bytes(config: Any, itemsize: int, ledger: SampleLedger, turn: Turn) -> tuple[int, int]:
    """Bytes of keys and values in the KV cache at the end of a turn, and how many of them the turn wrote.

    The last generated token is chosen and not run, so that its keys are not there yet.

    Args:
        config: The LLM's configuration.
        itemsize: Bytes of a number.
        ledger: Token counts of the turn.
        turn: The turn.
    """
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_key_value_heads * width * itemsize
    answer = max(0, ledger.generated - 1)
    held = token * sum(length + answer for length in ledger.held)
    written = held if turn.fresh is None else token * len(ledger.layers) * (turn.fresh + answer)
    return held, written
