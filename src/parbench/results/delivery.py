"""How far the tokens that a run delivered are from those that were asked of it."""

from __future__ import annotations

from collections.abc import Mapping

from parbench.reducers.budget import FAR

MARK = "†"


def deviation(budget: float | None, mean: float | None, patches: int | None = None) -> float | None:
    """The delivered mean less the budget, relative to it; None where nothing was asked, or nothing delivered.

    Args:
        budget: Tokens, or the share of an image's that runs of old have.
        mean: Visual tokens of an image on average.
        patches: Visual tokens of an image without reduction, for shares.
    """
    if not budget or not mean:
        return None
    asked = budget if budget >= 1 else budget * (patches or 0)
    return mean / asked - 1 if asked else None


def is_far(off: float | None) -> bool:
    """Whether a deviation has to be said; what is not known is not far."""
    return off is not None and abs(off) > FAR


def in_words(off: float) -> str:
    """``13.9 % below``."""
    return f"{100 * abs(off):.1f} % {'below' if off < 0 else 'above'}"


def source(found_on: Mapping[str, object] | None) -> str:
    """What a threshold was calibrated on, in words; empty where that is not known."""
    if not found_on:
        return ""
    name = " ".join(str(found_on[key]) for key in ("dataset",) if key in found_on)
    where = f"{name} ({found_on['split']})".strip() if "split" in found_on else name
    return f"{found_on['questions']} questions of {where}" if "questions" in found_on else where
