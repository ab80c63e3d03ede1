"""Numbers as the text of a table's cell: alone, with an interval, or as a p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def number(value: float, scale: float = 1, digits: int = 1, *, signed: bool = False) -> str:
    """A number as text; empty for NaN.

    Args:
        value: The number.
        scale: What it is multiplied by, such as 100 for per cent.
        digits: Digits after the point.
        signed: Whether a number above zero has a plus sign.
    """
    if pd.isna(value):
        return ""
    # No minus sign before zero.
    rounded = round(scale * value, digits) + 0.0
    return f"{rounded:{'+' if signed and rounded else ''}.{digits}f}"


def ranged(ends: Sequence[float], scale: float = 1, digits: int = 1, *, signed: bool = False) -> str:
    """A number with its interval: 88.9 [86.1, 91.4]; without it where there is none, and empty for NaN.

    Args:
        ends: The number, the lower and the upper end of its interval, which are NaN where there is none.
        scale: As in :func:`number`, as are the others.
        digits: Digits after the point.
        signed: Whether numbers above zero have a plus sign.
    """
    middle, low, high = (number(value, scale, digits, signed=signed) for value in ends)
    return f"{middle} [{low}, {high}]" if low else middle


def ends(row: Mapping[str, Any], name: str) -> tuple[float, float, float]:
    """A value of a row with the ends of its interval, from the columns ``name``, ``name_low`` and ``name_high``; NaN if missing."""
    middle, low, high = (row.get(key, float("nan")) for key in (name, f"{name}_low", f"{name}_high"))
    return middle, low, high


def p_text(value: float) -> str:
    """A p-value with three digits; empty for NaN."""
    if pd.isna(value):
        return ""
    return "<0.001" if value < 0.001 else f"{value:.3f}"
