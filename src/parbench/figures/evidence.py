"""Figures of evidence: evidence recall against accuracy, and the remaining redundancy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.curves import y_title
from parbench.figures.frame import CHANCE, NONE, Arrangement, Margins, axes_at, lines_beneath, panels, reference
from parbench.figures.labels import Named, beside, mark, row_names, trace, width_of
from parbench.figures.style import Medium, styled
from parbench.figures.sweep import Sweep

# Opacity of the points of the smallest budget and of the largest.
_STRONG, _FAINT = 1.0, 0.3
_SHARES = {
    "irrelevant": ("external: not needed (%)", "external (%)"),
    "repeated": ("internal: needed, but again (%)", "internal (%)"),
}


def recall_against_accuracy(sweep: Sweep, medium: Medium) -> Any:
    """Draw accuracy against evidence recall: a point for each run, a line for each method, labelled at the smallest budget."""
    points = sweep.reduced[np.isfinite(sweep.reduced["evidence_recall"])]
    asked = points[points["budget"].notna()]
    margins = Margins(0.42, 0, 0.1, 0.32, 0.1) if medium.narrow else Margins(0.5, 0, 0.15, 0.42, 0.12)
    with styled(medium) as figure_class:
        # Many labels need room to find a place.
        least, each = (3.1, 0.095) if medium.narrow else (5.2, 0.13)
        arrangement = Arrangement(1, max(least, each * points["series"].nunique()), across=False)
        figure, (panel,) = panels(figure_class, medium, arrangement, margins, _recall_note(sweep))
        _limits(panel, sweep, points, medium)
        entries, taken = [], [np.empty((0, 2))]
        for name, series in points.groupby("series", sort=False):
            mine = asked[asked["series"] == name].sort_values("budget", ascending=False)
            mine = mine if len(mine) else series
            entries.append(_trail(panel, str(name), mine))
            taken += [mine[["evidence_recall", "value"]].to_numpy(dtype=float), *_bars(mine.iloc[-1])]
        beside(panel, medium, entries, np.concatenate(taken))
        panel.set_xlabel("evidence recall (%)")
        panel.set_ylabel(y_title(sweep))
        panel.grid()
        return figure


def _limits(panel: Any, sweep: Sweep, points: pd.DataFrame, medium: Medium) -> None:
    low, high = points["value"].min(), points["value"].max()
    for value, style in ((None if sweep.none is None else sweep.none["value"], NONE), (sweep.chance, CHANCE)):
        if value is not None:
            reference(panel, medium, value, style)
            low, high = min(low, value), max(high, value)
    edge = 0.05 * (high - low) or 1.0
    panel.set_ylim(low - edge, high + edge)
    panel.set_xlim(-3, 103)


def _trail(panel: Any, name: str, series: pd.DataFrame) -> Named:
    """Draw the points of a method, with intervals for the last one. Returns its label."""
    own, last = series["look"].iloc[0], series.iloc[-1]
    trace(panel, own, series["evidence_recall"], series["value"], linewidth=0.7, alpha=0.35, zorder=2)
    mark(panel, own, series["evidence_recall"][:-1], series["value"][:-1], alpha=0.35, markersize=2.2, zorder=3)
    panel.hlines(
        last["value"],
        last["evidence_recall_low"],
        last["evidence_recall_high"],
        color=own.colour,
        linewidth=0.8,
        alpha=0.35,
    )
    panel.vlines(last["evidence_recall"], last["value_low"], last["value_high"], color=own.colour, linewidth=0.8, alpha=0.35)
    mark(panel, own, last["evidence_recall"], last["value"])
    return Named(name, own, last["evidence_recall"], last["value"])


def _bars(point: pd.Series) -> list[np.ndarray]:
    """Points along the two intervals of a run, each [P, 2] in data coordinates."""
    across = np.linspace(point["evidence_recall_low"], point["evidence_recall_high"], 5)
    up = np.linspace(point["value_low"], point["value_high"], 5)
    found = [(across, np.full(5, point["value"])), (np.full(5, point["evidence_recall"]), up)]
    return [np.stack(ends, axis=1) for ends in found if np.isfinite(ends).all()]


def _recall_note(sweep: Sweep) -> str:
    budgets = [f"{budget:g}" for budget in sweep.budgets]
    named = (
        f"Named: a method's smallest budget ({budgets[-1]} tokens for most), or its own rule where it has none, with 95 % "
        "intervals; small: larger budgets. "
        if len(budgets) > 1
        else ""
    )
    return (
        f"{sweep.about}. {named}Evidence recall: share of the patches a question needs that the kept tokens come from, after the "
        "last stage. Dashed line: no reduction; dotted: chance."
    )


def redundancy(sweep: Sweep, medium: Medium) -> Any:
    """Draw the share of irrelevant tokens and the share of repeated tokens, one row per method."""
    points = sweep.reduced[np.isfinite(sweep.reduced["irrelevant"])]
    asked = points[points["budget"].notna()]
    points = asked if len(asked) else points
    order = points.sort_values("budget").drop_duplicates("series").sort_values("irrelevant", ascending=False)["series"].tolist()
    size = medium.font / 72
    left, gap, bottom, row = width_of(order, medium.font) + 2.9 * size, 0.16, 4.2 * size, 1.6 * size
    with styled(medium) as figure_class:
        beneath, draw_note = lines_beneath(medium, _redundancy_note(sweep, points))
        height = row * (len(order) + 0.6)
        whole = beneath + bottom + height + 0.06
        figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)
        width = (medium.width - left - 2 * gap) / 2
        for number, (share, titles) in enumerate(_SHARES.items()):
            panel = axes_at(figure, left + number * (width + gap), beneath + bottom, width, height)
            _dots(panel, sweep, points, share, order, medium)
            panel.set_xlabel(titles[medium.narrow])
            if number == 0:
                looks = dict(zip(points["series"], points["look"], strict=True))
                row_names(panel, medium, [(name, looks[name]) for name in order])
        draw_note(figure)
        return figure


def _dots(panel: Any, sweep: Sweep, points: pd.DataFrame, share: str, order: list[str], medium: Medium) -> None:
    budgets = sorted(points["budget"].unique())
    for name, series in points.groupby("series"):
        row, own = order.index(str(name)), series["look"].iloc[0]
        panel.hlines(row, series[share].min(), series[share].max(), color=own.colour, linewidth=0.8, alpha=0.4)
        for _, one in series.iterrows():
            rank = budgets.index(one["budget"]) / max(1, len(budgets) - 1)
            strength = _STRONG + rank * (_FAINT - _STRONG)
            panel.hlines(row, one[f"{share}_low"], one[f"{share}_high"], color=own.colour, linewidth=2.2, alpha=0.25 * strength)
            mark(panel, own, one[share], row, alpha=strength)
    if sweep.none is not None:
        reference(panel, medium, sweep.none[share], NONE, upright=True)
    panel.set_ylim(len(order) - 0.3, -0.7)
    panel.set_yticks(range(len(order)), [""] * len(order))
    panel.tick_params(axis="y", length=0)
    panel.grid()
    panel.spines["left"].set_visible(False)


def _redundancy_note(sweep: Sweep, points: pd.DataFrame) -> str:
    budgets = [f"{budget:g}" for budget in sorted(points["budget"].unique(), reverse=True)]
    fading = f"Fainter: more tokens ({', '.join(budgets)}). " if len(budgets) > 1 else ""
    return (
        f"{sweep.about}. {fading}External: share of the kept tokens that come mostly from patches which the question does not "
        "need. Internal: share that lie in a needed box in which another kept token lies already. Bars: 95 % intervals; dashed: "
        "no reduction."
    )
