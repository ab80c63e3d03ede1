"""How far the tokens that a run kept are from its budget."""

from __future__ import annotations

from collections.abc import Mapping

from parbench.reducers.budget import FAR
from parbench.results.record import RunMetrics

MARK = "†"


def deviation(metrics: RunMetrics) -> float | None:
    """The relative deviation (mean - budget) / budget of the kept tokens of an image; None if there is no budget or no mean."""
    budget, mean = metrics.budget, metrics.tokens_kept["mean"]
    if not budget or not mean:
        return None
    # Runs of old formats have ratios too, of images with the same number of tokens.
    asked = metrics.asked or (budget if budget >= 1 else budget * (metrics.patches or 0))
    return mean / asked - 1 if asked else None


def is_far(off: float | None) -> bool:
    """Whether a deviation is large enough to be reported; False if it is unknown."""
    return off is not None and abs(off) > FAR


def in_words(off: float) -> str:
    """A deviation in words, such as ``13.9 % below``."""
    return f"{100 * abs(off):.1f} % {'below' if off < 0 else 'above'}"


def source(found_on: Mapping[str, object] | None) -> str:
    """The data that a threshold was calibrated on, in words; empty if they are not known."""
    if not found_on:
        return ""
    name = " ".join(str(found_on[key]) for key in ("dataset",) if key in found_on)
    where = f"{name} ({found_on['split']})".strip() if "split" in found_on else name
    return f"{found_on['questions']} questions of {where}" if "questions" in found_on else where
