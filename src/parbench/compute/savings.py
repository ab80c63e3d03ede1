"""Savings of a method by each FLOP convention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# PAR's abstract: 83 % fewer FLOPs with 89 % fewer visual tokens, which are 64 of 576.
TOKENS = 64
# Lengths of prompts: PruMerge's 40 tokens, which fit PAR's claim; LLaVA-1.5's 35 before the image plus 45 after it, the average
# over 11 tasks by DivPrune's figures; 118 by SparseVLM's figure.
TEXTS = (40, 80, 118)


def savings(full: Mapping[str, Any], reduced: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per convention.

    Args:
        full: A predicted row of the unreduced model, with ``conventions``.
        reduced: The predicted row of the method, with its overhead.

    Returns:
        model, method, tokens, text, count (``llm`` is ours up to the first token; ``everything`` adds tower, projector and
        method overhead; the others are of :mod:`parbench.compute.conventions`), full, reduced, saved (a share).
    """
    counts = {"llm": (full["llm_prefill"], reduced["llm_prefill"]), "everything": (full["total"], reduced["total"])}
    for name, figure in reduced["conventions"].items():
        if name != "true":
            counts[name] = (full["conventions"][name], figure)
    told = {key: reduced[key] for key in ("model", "method", "tokens", "text")}
    return [
        {**told, "count": name, "full": before, "reduced": after, "saved": 1 - after / before}
        for name, (before, after) in counts.items()
    ]
