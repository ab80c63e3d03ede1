"""The rows of a report's table and the points of its scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.sweep import Sweep
from parbench.figures.times import Times, timed


@dataclass(frozen=True)
class Column:
    """A number of a run.

    Attributes:
        key: In the rows; ``key_low`` and ``key_high`` are its interval, where it has one.
        title: In headings and axes.
        hint: What it means.
        unit: After a value.
        digits: After the point.
        first: Whether a click on the heading sorts the smallest first.
    """

    key: str
    title: str
    hint: str
    unit: str = ""
    digits: int = 1
    first: bool = False


def columns_of(sweep: Sweep, times: Times | None) -> list[Column]:
    """The numbers that these runs have."""
    percent = sweep.measure.scale == 100
    unit, digits = (" %" if percent else ""), sweep.measure.digits
    points = " pts" if percent else ""
    timed_on = (
        ""
        if times is None
        else (f"Median time to the first token, {times.device}, batch {times.batch}; small: quartiles of {times.repeats} repeats.")
    )
    columns = [
        Column("value", sweep.measure.title, "With its 95 % interval, images resampled.", unit, digits),
        Column("against", "vs none", "Difference from no reduction, paired, with its 95 % interval.", points, digits),
        Column("tokens", "tokens", "Visual tokens of a sample, mean over samples and LLM layers.", first=True),
        Column("compression", "removed", "Share of the visual tokens that is gone.", " %"),
        Column(
            "gflops",
            "GFLOP",
            "Up to the first token, 2 per multiply-add, the method's own work included.",
            "",
            2,
            first=True,
        ),
        Column("saved", "FLOPs saved", "Of those without reduction.", " %"),
        Column(
            "evidence_recall",
            "evidence recall",
            "Share of the patches a question needs that kept tokens come from.",
            " %",
        ),
        Column(
            "irrelevant",
            "external",
            "External redundancy: share of the kept tokens that are not needed.",
            " %",
            first=True,
        ),
        Column(
            "repeated",
            "internal",
            "Internal redundancy: kept tokens in a needed box that holds another.",
            " %",
            first=True,
        ),
        Column("hard", "hard subset", "Accuracy on what no reduction answers and downsample at this budget does not.", " %"),
        Column("ms", "ms", timed_on, first=True),
        Column("failures", "failed", "Samples that failed; counted as wrong.", "", 0),
        Column("unparseable", "unparseable", "Answers that can be no answer; counted as wrong.", "", 0),
    ]
    frame = _frame(sweep, times)
    told = {"failures", "unparseable"}
    return [column for column in columns if frame[column.key].notna().any() and (column.key not in told or frame[column.key].any())]


def rows_of(sweep: Sweep, columns: Sequence[Column], times: Times | None) -> list[dict[str, Any]]:
    """A row a run: names, budget, and each column with its interval; None where there is no number."""
    frame = _frame(sweep, times)
    keys = [key for column in columns for key in (column.key, f"{column.key}_low", f"{column.key}_high") if key in frame]
    rows = []
    for _, row in frame.iterrows():
        names = {key: row[key] for key in ("label", "series", "method", "note")}
        names["off"] = _number(row["off_budget"]) if row["far_off_budget"] else None
        rows.append({**names, "budget": _number(row["budget"]), **{key: _number(row[key]) for key in keys}})
    return rows


def _frame(sweep: Sweep, times: Times | None) -> pd.DataFrame:
    frame, table = sweep.points.copy(), sweep.comparison.frame
    for end in ("", "_low", "_high"):
        for key, name, scale in (("against", "delta_none", sweep.measure.scale), ("hard", "hard", 100)):
            frame[f"{key}{end}"] = scale * table[f"{name}{end}"] if f"{name}{end}" in table else np.nan
    frame[["off_budget", "far_off_budget"]] = table[["off_budget", "far_off_budget"]].to_numpy()
    frame["saved"] = 100 * table["saved"] if "saved" in table else np.nan
    frame["ms"] = np.nan
    if times is not None:
        measured = timed(sweep, times).set_index("run_id")
        for key, name in (("ms", "x"), ("ms_low", "x_low"), ("ms_high", "x_high")):
            frame[key] = frame["run_id"].map(measured[name])
    return frame


def _number(value: Any) -> float | int | None:
    """Six digits are more than anything here has."""
    if value is None or not np.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short
