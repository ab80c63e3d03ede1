"""Accuracy against measured time, from the files of ``parbench bench``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.figures.curves import Axis, curves, round_ticks
from parbench.figures.style import Medium
from parbench.figures.sweep import Sweep
from parbench.results.run_identity import todays_fields


class Timeable(Protocol):
    """Runs that can have been timed: a sweep, or other runs of one model."""

    @property
    def points(self) -> pd.DataFrame:
        """One row per run, with at least ``run_id``, ``method`` and ``budget``."""

    @property
    def runs(self) -> pd.DataFrame:
        """The runs, with the fields of their identity and the settings of their methods."""


@dataclass(frozen=True)
class Times:
    """Times of one batch size in one file.

    Attributes:
        frame: ``method``, ``budget``, the method's ``fields``, and ``x``, ``x_low``, ``x_high``: median, lower and upper quartile
            of the milliseconds from pixels to the first token.
        device: Name of the device.
        kind: ``cpu`` or ``cuda``.
        batch: Questions per batch.
        repeats: Number of timed passes.
    """

    frame: pd.DataFrame
    device: str
    kind: str
    batch: int
    repeats: int


def is_bench(path: Path) -> bool:
    """Whether a file was written by ``parbench bench``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"settings", "environment", "batches", "rows"} <= set(found)


def read_times(path: Path, sweep: Timeable) -> list[Times]:
    """The times in a file of ``parbench bench`` for the runs of a sweep, one entry per batch size.

    Raises:
        ParbenchError: The file is not one of ``parbench bench``, has another format, or has times of another model or of none of
            the runs.
    """
    if not is_bench(path):
        raise ParbenchError(f"{path} is not a file of parbench bench: name run folders, and files that bench wrote")
    content = json.loads(path.read_text(encoding="utf-8"))
    try:
        _check(path, content["settings"], sweep)
        found = [times for times in _times(content) if (timed(sweep, times)["method"] != "none").any()]
    except (KeyError, TypeError, ValueError) as error:
        raise ParbenchError(f"{path} is of another format, or damaged ({error!r}): measure again with parbench bench") from error
    if not found:
        raise ParbenchError(f"{path} has no times of these methods at the budgets of the runs: measure them with parbench bench")
    return found


def _check(path: Path, settings: Mapping[str, Any], sweep: Timeable) -> None:
    for field in ("model", "weights", "dtype"):
        mine = sweep.runs[field].iloc[0]
        if settings[field] != mine:
            raise ParbenchError(
                f"{path} has times of {field}={str(settings[field])[:12]}, but the runs have {str(mine)[:12]}: leave it out"
            )


def _times(content: Mapping[str, Any]) -> list[Times]:
    rows = [row for row in content["rows"] if "measured" in row]
    on, repeats = content["environment"], content["settings"]["repeats"]
    return [
        Times(_frame([row for row in rows if row["batch"] == batch]), on["device"], on["kind"], batch, repeats)
        for batch in sorted({row["batch"] for row in rows})
    ]


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    found = []
    for row in rows:
        spent = row["measured"]["seconds"]["ttft"]
        budget = np.nan if row["budget"] is None else float(row["budget"])
        found.append(
            (row["method"], budget, todays_fields(row["fields"]), *(1000 * spent[key] for key in ("median", "low", "high")))
        )
    return pd.DataFrame(found, columns=["method", "budget", "fields", "x", "x_low", "x_high"])


def timed(sweep: Timeable, times: Times) -> pd.DataFrame:
    """The points of a sweep with ``x``, ``x_low`` and ``x_high`` of the times; those not timed with their settings are omitted."""
    # A method with its own rule has no budget. -1 makes missing budgets equal.
    joined = sweep.points.assign(at=sweep.points["budget"].fillna(-1)).merge(
        times.frame.assign(at=times.frame["budget"].fillna(-1)).drop(columns="budget"), on=["method", "at"]
    )
    settings = sweep.runs.set_index("run_id")["settings"]
    same = [_agree(settings[run], fields) for run, fields in zip(joined["run_id"], joined["fields"], strict=True)]
    return joined[same].drop(columns=["at", "fields"])


def _agree(settings: Mapping[str, Any], timed: Mapping[str, Any]) -> bool:
    """Whether a run has the settings of a timed method. Floats are compared with a tolerance, since the file rounds them."""

    def equal(one: Any, other: Any) -> bool:
        if isinstance(one, float) and isinstance(other, float):
            return math.isclose(one, other, rel_tol=1e-4)
        return bool(one == other)

    return all(equal(settings.get(field), value) for field, value in timed.items() if field != "budget")


def against_time(sweep: Sweep, times: Times, medium: Medium) -> Any:
    """Draw accuracy against milliseconds from pixels to the first token."""
    axis = Axis("ms to the first token (fewer to the right)", lambda points: points["x"], round_ticks, far=0.8)
    each = f"a batch of {times.batch}" if times.batch > 1 else "one question"
    said = f"Median time of {each} on {times.device}, {times.repeats} repeats, bars across: quartiles. "
    return curves(sweep, medium, axis, timed(sweep, times), said)
