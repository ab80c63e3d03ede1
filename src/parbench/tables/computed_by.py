"""Footnotes for runs of one table that were computed by different code or devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from parbench.errors import ParbenchError


def code_notes(runs: pd.DataFrame) -> list[str]:
    """Footnotes about the code and devices that computed the runs; empty if they are the same for all.

    Args:
        runs: ``load(...).runs``.
    """
    notes = []
    codes = _counted(runs, _code)
    if len(codes) > 1:
        notes.append(f"computed by different code with the same `numerics`: {_listed(codes)}")
    devices = _counted(runs, lambda state: state.get("device"))
    if len(devices) > 1:
        notes.append(f"computed on different devices: {_listed(devices)}")
    old = int(runs["old"].sum())
    if 0 < old < len(runs):
        notes.append(
            f"{old} of the runs have an older format without `numerics` and some versions, which are assumed to be the same"
        )
    return notes


def check_same_code(runs: pd.DataFrame) -> None:
    """Refuse runs that need such a footnote.

    Raises:
        ParbenchError: They do. The message contains the footnote.
    """
    if notes := code_notes(runs):
        raise ParbenchError(
            f"these {len(runs)} runs were not computed alike ({'; '.join(notes)}): compute them again with one parbench on one "
            "kind of device, or leave out strict"
        )


def _code(state: Mapping[str, Any]) -> str | None:
    """The code as text. Equal sources are the same code, whatever the commit."""
    source = state.get("source")
    return f"parbench {state.get('parbench')} (sources {source[:8]})" if source else None


def _counted(runs: pd.DataFrame, name: Any) -> dict[str, int]:
    """Number of runs that each state computed, in full or in part. States that are not recorded are omitted."""
    counts: Counter[str] = Counter()
    for states in runs["computed_by"]:
        counts.update({found for state in states if (found := name(state))})
    return dict(counts.most_common())


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} in {count}" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (f" and {len(counts) - 4} more" if len(counts) > 4 else "")
