"""Notes on runs of one table that different code, or different devices, computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from parbench.errors import ParbenchError


def code_notes(runs: pd.DataFrame) -> list[str]:
    """What a reader of a table has to know about who computed its runs; nothing where all were computed alike.

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
            f"{old} of the runs are of an older format, which records neither `numerics` nor all versions: taken to be the same"
        )
    return notes


def check_same_code(runs: pd.DataFrame) -> None:
    """Refuse runs that need such a note.

    Raises:
        ParbenchError: With the note.
    """
    if notes := code_notes(runs):
        raise ParbenchError(
            f"these {len(runs)} runs are not alike ({'; '.join(notes)}): compute them anew with one parbench on one kind of "
            f"device, or "
            "leave out strict"
        )


def _code(state: Mapping[str, Any]) -> str | None:
    """The sources, by commit where that says all; what has the same sources is the same code, whatever its commit."""
    source = state.get("source")
    return f"parbench {state.get('parbench')} (sources {source[:8]})" if source else None


def _counted(runs: pd.DataFrame, name: Any) -> dict[str, int]:
    """How many runs each state computed, all or a part of it; what is not recorded is left out."""
    counts: Counter[str] = Counter()
    for states in runs["computed_by"]:
        counts.update({found for state in states if (found := name(state))})
    return dict(counts.most_common())


def _listed(counts: Mapping[str, int]) -> str:
    shown = [f"{name} in {count}" for name, count in list(counts.items())[:4]]
    return ", ".join(shown) + (f" and {len(counts) - 4} more" if len(counts) > 4 else "")
