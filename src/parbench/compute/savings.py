"""What a method saves under each way of counting, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# PAR's abstract: 83 % fewer FLOPs with 89 % fewer visual tokens, which are 64 of 576.
TOKENS = 64
# Prompts to count with: PruMerge's 40 tokens, which fit PAR's claim; LLaVA-1.5's 35 before the image and the 45 behind it that
# DivPrune's figures have on average over 11 tasks; the 118 that SparseVLM's figure has.
TEXTS = (40, 80, 118)


def savings(full: Mapping[str, Any], reduced: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry for each way of counting.

    Args:
        full: A predicted row of the unreduced model, with ``conventions``.
        reduced: The method's, with its own work.

    Returns:
        model, method, tokens, text, count (``llm`` is ours up to the first token; ``everything`` adds tower, projector and the
        method's own work; the others are of :mod:`parbench.compute.conventions`), full, reduced, saved (a share).
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
