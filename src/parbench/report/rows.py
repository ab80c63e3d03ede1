"""Columns and rows of a report's table, which are also the points of its scatter plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.sweep import Sweep
from parbench.figures.times import Times, timed
from parbench.results.controls import CONTROLS

# Groups of columns, as named in the report. The table shows one at a time.
ANSWERS, AGAINST, COSTS, EVIDENCE = "answers", "against controls", "costs", "evidence"


@dataclass(frozen=True)
class Column:
    """A numeric column.

    Attributes:
        key: Its key in the rows. If available, ``key_low`` and ``key_high`` are the interval, and ``key_p`` is the corrected
            p-value for zero.
        title: Title of headings and axes.
        hint: Explanation of the column.
        unit: Unit, appended to values.
        digits: Digits after the decimal point.
        first: Whether the first click on the heading sorts in ascending order.
        group: The group of columns to which it belongs.
        signed: Whether positive values have a plus sign.
    """

    key: str
    title: str
    hint: str
    unit: str = ""
    digits: int = 1
    first: bool = False
    group: str = COSTS
    signed: bool = False


def columns_of(sweep: Sweep, times: Times | None) -> list[Column]:
    """The columns that have values for these runs.

    Args:
        sweep: The runs.
        times: Measured times; None without.
    """
    frame = frame_of(sweep, times)
    told = {"failures", "unparseable"}
    wanted = [*_answers(sweep), *_controls(sweep), *_costs(times), *_evidence()]
    return [column for column in wanted if frame[column.key].notna().any() and (column.key not in told or frame[column.key].any())]


def _scaled(sweep: Sweep) -> tuple[str, str, int]:
    """Unit of the measure, unit of its differences, and number of digits."""
    percent = sweep.measure.scale == 100
    return (" %" if percent else ""), (" pts" if percent else ""), sweep.measure.digits


_HOLM = "p: for a difference of zero, after Holm's correction over the runs of a budget."


def _answers(sweep: Sweep) -> list[Column]:
    unit, points, digits = _scaled(sweep)
    resampled = f"With its 95 % interval, {sweep.comparison.visual}s resampled."
    return [
        Column("value", sweep.measure.title, resampled, unit, digits, group=ANSWERS),
        Column(
            "against",
            "vs none",
            f"Difference from no reduction, paired, with its 95 % interval. {_HOLM}",
            points,
            digits,
            group=ANSWERS,
            signed=True,
        ),
        Column("retained", "retained", "Relative to no reduction, paired, with its 95 % interval.", " %", group=ANSWERS),
        Column(
            "broken",
            "broken / fixed",
            "Questions that are right without reduction and wrong now / the reverse. p: McNemar's exact test, after Holm's "
            "correction over the runs of a budget. Sorted by broken.",
            "",
            0,
            first=True,
            group=ANSWERS,
        ),
    ]


def _controls(sweep: Sweep) -> list[Column]:
    _, points, digits = _scaled(sweep)
    hint = "Difference from {} at the same budget, paired, with its 95 % interval. " + _HOLM
    return [
        Column(name, f"vs {name}", hint.format(name), points, digits, group=AGAINST, signed=True)
        for name in CONTROLS
        if f"delta_{name}" in sweep.comparison.frame
    ]


def _costs(times: Times | None) -> list[Column]:
    timed_on = (
        ""
        if times is None
        else (f"Median time to the first token, {times.device}, batch {times.batch}; small: quartiles of {times.repeats} repeats.")
    )
    flops = "Up to the first token, 2 per multiply-add, including the method's overhead."
    return [
        Column("tokens", "tokens", "Visual tokens of a sample, mean over samples and LLM layers.", first=True),
        Column("compression", "removed", "Share of the visual tokens that are removed.", " %"),
        Column("gflops", "GFLOP", flops, "", 2, first=True),
        Column("saved", "FLOPs saved", "Share of the FLOPs without reduction.", " %"),
        Column("ms", "ms", timed_on, first=True),
        Column("failures", "failed", "Samples that failed; counted as wrong.", "", 0),
        Column("unparseable", "unparseable", "Answers that the question does not allow; scored as the task scores them.", "", 0),
    ]


def _evidence() -> list[Column]:
    external = "External redundancy: share of the kept tokens that the question does not need."
    internal = "Internal redundancy: share of the kept tokens in an evidence box that already has another kept token."
    hard = "Accuracy on the questions that none answers and downsample at this budget does not."
    recall = "Share of the patches needed by a question from which kept tokens come."
    anywhere = (
        "The same, where a coarser token (of a thumbnail or base image) that shows the centre of such a patch counts for it too."
    )
    return [
        Column("evidence_recall", "evidence recall", recall, " %", group=EVIDENCE),
        Column("evidence_recall_any", "evidence recall, any part", anywhere, " %", group=EVIDENCE),
        Column("irrelevant", "external", external, " %", first=True, group=EVIDENCE),
        Column("repeated", "internal", internal, " %", first=True, group=EVIDENCE),
        Column("hard", "hard subset", hard, " %", group=EVIDENCE),
    ]


def rows_of(sweep: Sweep, columns: Sequence[Column], times: Times | None) -> list[dict[str, Any]]:
    """One row per run: names, budget, and each column with its interval and p-value; None for missing values."""
    frame = frame_of(sweep, times)
    ends = ("", "_low", "_high", "_p")
    keys = [key for column in columns for end in ends if (key := f"{column.key}{end}") in frame]
    keys += ["fixed"] if "broken" in keys else []
    rows = []
    for _, row in frame.iterrows():
        names = {key: row[key] for key in ("label", "series", "method", "note")}
        names["off"] = number(row["off_budget"]) if row["far_off_budget"] else None
        rows.append({**names, "budget": number(row["budget"]), **{key: number(row[key]) for key in keys}})
    return rows


def frame_of(sweep: Sweep, times: Times | None) -> pd.DataFrame:
    """The points of a sweep with all columns that a report may show; NaN for missing values."""
    frame, table = sweep.points.copy(), sweep.comparison.frame
    scaled = [("against", "delta_none", sweep.measure.scale), ("hard", "hard", 100), ("retained", "retained", 100)]
    scaled += [(name, f"delta_{name}", sweep.measure.scale) for name in CONTROLS]
    for key, name, scale in scaled:
        for end in ("", "_low", "_high"):
            frame[f"{key}{end}"] = scale * table[f"{name}{end}"] if f"{name}{end}" in table else np.nan
        if f"{name}_p_holm" in table:
            frame[f"{key}_p"] = table[f"{name}_p_holm"]
    flipped = "flips_p_holm" in table
    for key in ("broken", "fixed"):
        frame[key] = table[key].where(table["flips_p"].notna()) if flipped else np.nan
    frame["broken_p"] = table["flips_p_holm"] if flipped else np.nan
    frame[["off_budget", "far_off_budget"]] = table[["off_budget", "far_off_budget"]].to_numpy()
    frame["saved"] = 100 * table["saved"] if "saved" in table else np.nan
    frame["ms"] = np.nan
    if times is not None:
        measured = timed(sweep, times).set_index("run_id")
        for key, name in (("ms", "x"), ("ms_low", "x_low"), ("ms_high", "x_high")):
            frame[key] = frame["run_id"].map(measured[name])
    return frame


def number(value: Any) -> float | int | None:
    """A number rounded to six digits for JSON; None if it is not finite."""
    if value is None or not np.isfinite(value):
        return None
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short
