"""Accuracy against savings: one line per method, with a band for its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.frame import CHANCE, NONE, Arrangement, Margins, panels, reference
from parbench.figures.labels import ROW, Named, beside, column, mark, trace, width_of
from parbench.figures.looks import BEFORE, CONTROL, INSIDE, TOWER
from parbench.figures.style import Medium, styled
from parbench.figures.sweep import Sweep

# Maximum number of lines in a single panel, and of lines with bands.
_MOST, _BANDS = 9, 12
_GROUPS = {"before the LLM": (BEFORE,), "inside the tower or the LLM": (TOWER, INSIDE), "controls": (CONTROL,)}


@dataclass(frozen=True)
class Axis:
    """A logarithmic x-axis; cheaper is to the right.

    Attributes:
        title: Title with unit.
        values: Maps points to x-values.
        ticks: Maps the sweep and the x-values to ticks: positions and labels.
        far: Distance from the right edge, as a share of the axis. A line that ends further left is labelled at its end, the others
            in a column at the right.
    """

    title: str
    values: Callable[[pd.DataFrame], pd.Series]
    ticks: Callable[[Sweep, np.ndarray], list[tuple[float, str]]]
    far: float


def curves(sweep: Sweep, medium: Medium, axis: Axis, points: pd.DataFrame | None = None, extra: str = "") -> Any:
    """Draw accuracy against a cost, one line per method.

    Args:
        sweep: The runs.
        medium: The medium of the figure.
        axis: The x-axis.
        points: The points; None for those of the sweep.
        extra: Text before the rest of the note.

    Returns:
        A matplotlib figure.
    """
    points = (sweep.points if points is None else points).assign(x=axis.values)
    points = points[np.isfinite(points["x"]) & (points["x"] > 0)]
    shown = _panels(points)
    names = [name for _, members in shown for name in members["series"]]
    room = width_of(names, medium.font) + 3.0 * medium.font / 72
    across = not medium.narrow
    margins = Margins(0.42, 0.1, room, 0.32, 0.2) if medium.narrow else Margins(0.5, 0.12, room, 0.44, 0.32)
    height = (1.9 if len(shown) > 1 else 2.1) if medium.narrow else 4.1
    # Room for one row per name, and for that of random.
    most = 1 + max((members["series"].nunique() for _, members in shown), default=0)
    height = max(height, most * ROW * medium.font / 72)
    with styled(medium) as figure_class:
        arrangement = Arrangement(len(shown), height, across)
        figure, axes = panels(figure_class, medium, arrangement, margins, f"{extra}{_note(sweep, points)}")
        limits = _limits(sweep, points)
        for number, (panel, (title, members)) in enumerate(zip(axes, shown, strict=True)):
            panel.set_ylim(*limits)
            _scale(panel, sweep, axis, points)
            _panel(panel, sweep, medium, axis, members, points)
            panel.set_title(title)
            if number == 0 or not across:
                panel.set_ylabel(y_title(sweep))
            else:
                panel.set_yticklabels([])
            if not across or number == len(shown) // 2:
                panel.set_xlabel(axis.title)
        return figure


def y_title(sweep: Sweep) -> str:
    """Name and unit of the measure."""
    return f"{sweep.measure.title} (%)" if sweep.measure.scale == 100 else sweep.measure.title


def _panels(points: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Titles and points of the panels: a single panel, or one for each group of methods."""
    reduced = points[points["method"] != "none"]
    if reduced["series"].nunique() <= _MOST:
        return [("", reduced)]
    groups = reduced["look"].map(lambda own: own.group)
    found = [(title, reduced[groups.isin(wanted)]) for title, wanted in _GROUPS.items()]
    return [(title, members) for title, members in found if len(members)]


def _limits(sweep: Sweep, points: pd.DataFrame) -> tuple[float, float]:
    """The limits of the y-axis, which include all intervals and chance."""
    low, high = points[["value", "value_low"]].min().min(), points[["value", "value_high"]].max().max()
    low = low if sweep.chance is None else min(low, sweep.chance)
    edge = 0.03 * (high - low) or 1.0
    return low - edge, high + edge


def _panel(panel: Any, sweep: Sweep, medium: Medium, axis: Axis, members: pd.DataFrame, points: pd.DataFrame) -> None:
    none = points[points["method"] == "none"]
    # Random is in every panel, for comparison; its band is only in the panel of controls.
    guest = points[(points["series"] == "random") & ~points["series"].isin(members["series"])]
    drawn, entries = _references(panel, sweep, medium), []
    banded = set(members["series"]) if members["series"].nunique() <= _BANDS else set()
    for name, series in pd.concat([guest, members]).groupby("series", sort=False):
        drawn += _series(panel, series, none, band=name in banded)
        last = series.sort_values("x").iloc[0]
        entries.append(Named(str(name), last["look"], last["x"], last["value"]))
    at = [panel.transAxes.inverted().transform(panel.transData.transform((one.x, one.y)))[0] for one in entries]
    column(panel, medium, [one for one, place in zip(entries, at, strict=True) if place > 1 - axis.far])
    inside = [one for one, place in zip(entries, at, strict=True) if place <= 1 - axis.far]
    beside(panel, medium, inside, _along(panel, drawn) if inside else np.empty((0, 2)))


def _scale(panel: Any, sweep: Sweep, axis: Axis, points: pd.DataFrame) -> None:
    """Set limits and ticks of the x-axis, the same for all panels."""
    values = points[[name for name in ("x", "x_low", "x_high") if name in points]].to_numpy(dtype=float)
    panel.set_xscale("log")
    ratio = (values.max() / values.min()) ** 0.03 if values.max() > values.min() else 1.1
    panel.set_xlim(values.max() * ratio, values.min() / ratio)
    panel.minorticks_off()
    ticks = axis.ticks(sweep, values)
    panel.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    panel.grid(axis="y")


def _references(panel: Any, sweep: Sweep, medium: Medium) -> list[np.ndarray]:
    """Draw the lines of none and chance. Returns the lines through their labels, each [2, 2] in data coordinates."""
    lines = [("none", None if sweep.none is None else sweep.none["value"]), ("chance", sweep.chance)]
    texts = []
    for name, value in lines:
        if value is None:
            continue
        reference(panel, medium, value, NONE if name == "none" else CHANCE)
        panel.annotate(
            f"{name} {value:.1f}",
            (0.0, value),
            (0.3 * medium.font, 0.25 * medium.font),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=medium.font - 1,
            color="0.25",
            va="bottom",
            zorder=5,
        )
        wide = (width_of([f"{name} {value:.1f}"], medium.font) + 0.1) * panel.figure.dpi
        left, line = panel.transData.transform((panel.get_xlim()[0], value))
        for above in (0.3, 0.9):
            height = line + above * medium.font * panel.figure.dpi / 72
            texts.append(panel.transData.inverted().transform([(left, height), (left + wide, height)]))
    return texts


def _series(panel: Any, series: pd.DataFrame, none: pd.DataFrame, *, band: bool) -> list[np.ndarray]:
    """Draw the line of a method, with or without band. Returns the line and its error bars, each [P, 2] in data coordinates."""
    own = series["look"].iloc[0]
    asked = series[series["budget"].notna()]
    asked = asked.sort_values("x", ascending=False)
    line = pd.concat([none, asked]) if len(asked) else asked
    trace(panel, own, line["x"][:2], line["value"][:2], linewidth=0.6, alpha=0.5, zorder=2)
    if band:
        panel.fill_between(asked["x"], asked["value_low"], asked["value_high"], color=own.colour, alpha=0.13, linewidth=0)
    trace(panel, own, asked["x"], asked["value"], zorder=3)
    rule = series[series["budget"].isna()]
    barred = rule if len(asked) != 1 else series
    mark(panel, own, series["x"], series["value"])
    mark(
        panel,
        own,
        rule["x"],
        rule["value"],
        marker="o",
        markerfacecolor="none",
        markeredgewidth=0.5,
        zorder=3.5,
        markersize=2.1 * panel.lines[-1].get_markersize(),
    )
    return [line[["x", "value"]].to_numpy(dtype=float), *_bars(panel, own.colour, barred)]


def _bars(panel: Any, colour: str, points: pd.DataFrame) -> list[np.ndarray]:
    """Draw vertical error bars, and horizontal ones if there are any. Returns them, each [2, 2] in data coordinates."""
    found = []
    for point in points.to_dict("records"):
        across = [(point["x_low"], point["value"]), (point["x_high"], point["value"])] if "x_low" in point else []
        for ends in (across, [(point["x"], point["value_low"]), (point["x"], point["value_high"])]):
            if ends:
                panel.plot(*zip(*ends, strict=True), color=colour, linewidth=0.8, alpha=0.8, zorder=2)
                found.append(np.array(ends, dtype=float))
    return found


def _along(panel: Any, drawn: Sequence[np.ndarray]) -> np.ndarray:
    """Dense points along lines, [P, 2] in data coordinates, so that labels can avoid them."""
    found = []
    for line in drawn:
        pixels = panel.transData.transform(line)
        found += [start + share * (end - start) for start, end in pairwise(pixels) for share in np.linspace(0, 1, 40)]
        found += list(pixels[-1:])
    made: np.ndarray = panel.transData.inverted().transform(np.array(found))
    return made


def _note(sweep: Sweep, points: pd.DataFrame) -> str:
    parts = [f"{sweep.about}. Bands and bars: 95 % intervals, {sweep.comparison.visual}s resampled."]
    if (points["budget"].isna() & (points["method"] != "none")).any():
        parts.append("Ringed: by the method's own rule.")
    groups = {own.group for own in points["look"]}
    if INSIDE in groups:
        parts.append("Dashed: inside the LLM, tokens averaged over its layers.")
    if TOWER in groups:
        parts.append("Dash-dotted: inside the vision tower.")
    return " ".join(parts)


def against_compression(sweep: Sweep, medium: Medium) -> Any:
    """Draw accuracy against the share of removed visual tokens."""

    def ticks(sweep: Sweep, values: np.ndarray) -> list[tuple[float, str]]:
        asked = sweep.points[sweep.points["budget"].notna()].groupby("budget")["compression"].median()
        places = {0.0, *(round(value) for value in asked)}
        wanted = [value for value in sorted(places | {50.0}) if values.min() * 0.9 <= 100 - value]
        return _apart([(100 - value, f"{value:.0f}") for value in wanted])

    axis = Axis("visual tokens removed (%)", lambda points: 100 - points["compression"], ticks, far=0.3)
    return curves(sweep, medium, axis)


def _apart(ticks: list[tuple[float, str]], least: float = 1.12) -> list[tuple[float, str]]:
    """Ticks without those too close to the previous one."""
    kept: list[tuple[float, str]] = []
    for tick in ticks:
        if not kept or kept[-1][0] / tick[0] > least:
            kept.append(tick)
    return kept


def against_flops(sweep: Sweep, medium: Medium) -> Any:
    """Draw accuracy against the FLOPs of a sample up to its first token."""
    large = sweep.points["gflops"].max() >= 1000
    unit, divisor = ("TFLOP", 1000) if large else ("GFLOP", 1)
    axis = Axis(
        f"{unit} up to the first token (fewer to the right)",
        lambda points: points["gflops"] / divisor,
        round_ticks,
        far=0.8,
    )
    return curves(sweep, medium, axis, extra="FLOPs: 2 per multiply-add, vision tower and the method's own work included. ")


def against_rate(sweep: Sweep, medium: Medium) -> Any:
    """Draw accuracy against the visual tokens that are left of a second of video."""
    axis = Axis("visual tokens a second of video (fewer to the right)", lambda points: points["rate"], round_ticks, far=0.3)
    return curves(sweep, medium, axis)


def round_ticks(_: Sweep, values: np.ndarray) -> list[tuple[float, str]]:
    """Round numbers in the range of the values: 1, 2, 5 times powers of ten, or a finer series if these are fewer than three."""
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9)):
        powers = range(int(np.floor(np.log10(values.min()))), int(np.ceil(np.log10(values.max()))) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
        found = [value for value in found if 0.97 * values.min() <= value <= 1.03 * values.max()]
        if len(found) >= 3:
            break
    return [(value, f"{value:g}") for value in sorted(found, reverse=True)]
