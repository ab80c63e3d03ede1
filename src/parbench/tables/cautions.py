"""Footnotes to tables that say little: few questions, or an unreduced model that hardly does better than guessing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from parbench.tables.comparing import Comparison

# Fewer questions than this get a footnote.
FEW = 50


def cautions(comparison: Comparison) -> list[str]:
    """The footnotes of a comparison that says little; none for others."""
    said = []
    if comparison.questions < FEW:
        said.append(f"only {comparison.questions} questions: the intervals are wide and rough; ask {FEW} or more")
    none = _unreduced(comparison)
    if none is None:
        return said
    floor = _floor(comparison)
    what = "chance" if floor else "0"
    if no_share(comparison):
        said.append(f"–: no share is given, since the interval of the unreduced model includes {what}")
    elif none["score"] - floor < none["score_high"] - none["score_low"]:
        said.append(f"the unreduced model is near {what}: what methods retain of so little says little")
    return said


def no_share(comparison: Comparison) -> bool:
    """Whether the unreduced model may be guessing, or never right, so that a share of its score means nothing."""
    none = _unreduced(comparison)
    # Without a single right answer there is no interval.
    return none is not None and bool(min(none["score"], none["score_low"]) <= _floor(comparison))


def _unreduced(comparison: Comparison) -> Any:
    """The row of the unreduced model; None if there is none."""
    rows = comparison.frame[comparison.frame["method"] == "none"]
    return None if rows.empty or pd.isna(rows["score"].iloc[0]) else rows.iloc[0]


def _floor(comparison: Comparison) -> float:
    """What guessing scores, as far as it is known; chance is an accuracy."""
    known = comparison.measure.name == "accuracy" and not pd.isna(comparison.chance)
    return comparison.chance if known else 0.0
