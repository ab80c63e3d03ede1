"""Median and spread of repeats."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median, quantiles

Spread = dict[str, float | list[float]]


def spread(values: Sequence[float]) -> Spread:
    """Median, lower and upper quartile, and the values in order of measurement."""
    low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": median(values), "low": low, "high": high, "values": list(values)}


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """The spread of the ratios of paired values."""
    return spread([a / b for a, b in zip(over, under, strict=True)])
