"""TFLOP that papers print, beside predicted ones. Papers count by different conventions; see docs/flops.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def printed(numbers: pd.DataFrame, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What papers print for the model, method and number of tokens of a predicted row, largest first.

    An unreduced row is compared with unreduced figures, whatever number of tokens the paper states: papers count LLaVA-NeXT's 2,880
    tokens without newlines. A row of any method is compared with all methods.

    Args:
        numbers: The published numbers; see :func:`parbench.tables.published.read`.
        row: The result of :func:`parbench.compute.predict.predict`.

    Returns:
        method, tokens, tflop, source; each figure of a source once.
    """
    found = numbers[(numbers["model"] == row["model"]) & numbers["tflop"].notna() & numbers["tokens"].notna()]
    if row["method"] == "none":
        found = found[found["method"] == "none"]
    else:
        found = found[(found["tokens"] == row["tokens"]) & (found["method"] != "none")]
        if not row["method"].startswith("any"):
            found = found[found["method"] == row["method"]]
    found = found[["method", "tokens", "tflop", "source"]].drop_duplicates().sort_values("tflop", ascending=False)
    return [{str(key): value for key, value in one.items()} for one in found.to_dict("records")]


def span_text(figures: list[dict[str, Any]]) -> str:
    """The smallest and largest figure, and how many sources print one; empty without figures."""
    if not figures:
        return ""
    values = sorted({one["tflop"] for one in figures})
    sources = len({one["source"] for one in figures})
    span = f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
    return f"{span} ({sources} source{'s' if sources > 1 else ''})"
