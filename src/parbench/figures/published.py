"""Published numbers of one model: a line for each source, never averaged over sources."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import pandas as pd

from parbench.config import names
from parbench.figures.frame import axes_at, lines_beneath
from parbench.figures.labels import Named, column, mark, trace, width_of
from parbench.figures.looks import look
from parbench.figures.style import Medium, styled

# Benchmarks in the order of the panels, with the metric that most papers report.
_SHOWN = {
    ("gqa", "accuracy"): "GQA, accuracy (%)",
    ("pope", "f1-or-accuracy"): "POPE, F1 or accuracy (%)",
    ("textvqa", "accuracy"): "TextVQA, accuracy (%)",
    ("mmbench", "accuracy"): "MMBench, accuracy (%)",
    ("mme", "points"): "MME, points (P + C)",
    ("mme", "perception"): "MME, points (P)",
    ("scienceqa", "accuracy"): "ScienceQA, accuracy (%)",
    ("vqav2", "accuracy"): "VQAv2, accuracy (%)",
    ("seedbench", "accuracy"): "SEED-Bench, accuracy (%)",
}
_NARROW = 3


def published_curves(frame: pd.DataFrame, model: str, medium: Medium) -> Any:
    """Draw published numbers against visual tokens: a panel per benchmark, a line per method and table of a source.

    Args:
        frame: The result of ``parbench.tables.published.read()``.
        model: Name of the model.
        medium: The medium of the figure; a narrow one shows only the first three benchmarks.

    Returns:
        A matplotlib figure.
    """
    # Trained methods are not comparable, and numbers without a number of tokens have no position on the axis.
    mine = frame[(frame["model"] == model) & ~frame["trained"] & (frame["tokens"] > 0) & ~frame["subset"].isin(["val", "image"])]
    # Papers compare some forty methods, more than a figure can show.
    mine = mine[mine["method"].isin(names("method", outside=False)) & (mine["setting"] != "no OCR tokens")]
    shown = [key for key in _SHOWN if ((mine["benchmark"] == key[0]) & (mine["metric"] == key[1])).any()]
    shown = shown[:_NARROW] if medium.narrow else shown
    mine = mine[[key in shown for key in zip(mine["benchmark"], mine["metric"], strict=True)]]
    across = 1 if medium.narrow else 3
    rows, size = ceil(len(shown) / across), medium.font / 72
    room = width_of(sorted(set(mine["method"])), medium.font) + 3.0 * size
    left, top, bottom, height = 0.42, 2.2 * size, 2.0 * size, 1.75 if medium.narrow else 2.15
    with styled(medium) as figure_class:
        beneath, draw_note = lines_beneath(medium, _note(mine, model))
        last = 1.6 * size
        whole = rows * (top + height + bottom) + last + beneath
        figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)
        width = medium.width / across - left - room
        for number, key in enumerate(shown):
            row, place = divmod(number, across)
            low = whole - (row + 1) * (top + height + bottom) + bottom
            panel = axes_at(figure, place * medium.width / across + left, low, width, height)
            _panel(panel, mine[(mine["benchmark"] == key[0]) & (mine["metric"] == key[1])], medium)
            panel.set_title(_SHOWN[key])
            if number + across >= len(shown):
                panel.set_xlabel("visual tokens")
        draw_note(figure)
        return figure


def _panel(panel: Any, points: pd.DataFrame, medium: Medium) -> None:
    panel.set_xscale("log")
    panel.set_xlim(points["tokens"].max() * 1.08, points["tokens"].min() / 1.08)
    panel.minorticks_off()
    ticks = [tokens for tokens in (576, 256, 128, 64, 32) if points["tokens"].min() <= tokens <= points["tokens"].max()]
    panel.set_xticks(ticks, [f"{tokens}" for tokens in ticks])
    low, high = points["value"].min(), points["value"].max()
    panel.set_ylim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    panel.grid(axis="y")
    unreduced = points[points["method"] == "none"]
    tables = ["source", "place", "variant"]
    for method, rows in points[points["method"] != "none"].groupby("method"):
        own = look(str(method))
        for _, table in rows.groupby(tables):
            line = table.sort_values("tokens", ascending=False)
            start = unreduced[(unreduced["source"] == line["source"].iloc[0]) & (unreduced["place"] == line["place"].iloc[0])].head(
                1
            )
            if len(start):
                first = pd.concat([start, line.head(1)])
                trace(panel, own, first["tokens"], first["value"], linewidth=0.4, alpha=0.35, zorder=2)
            trace(panel, own, line["tokens"], line["value"], linewidth=0.9 * medium.fine, alpha=0.8, zorder=3)
            mark(panel, own, line["tokens"], line["value"], markersize=0.75 * _marker())
    column(panel, medium, _ends(points[points["method"] != "none"]))


def _marker() -> float:
    import matplotlib

    return float(matplotlib.rcParams["lines.markersize"])


def _ends(points: pd.DataFrame) -> Sequence[Named]:
    """The labels of methods, each at its smallest number of tokens and the median of the values reported there."""
    found = []
    for method, rows in points.groupby("method"):
        last = rows[rows["tokens"] == rows["tokens"].min()].sort_values("value")
        point = last.iloc[len(last) // 2]
        found.append(Named(str(method), look(str(method)), point["tokens"], point["value"]))
    return found


def _note(points: pd.DataFrame, model: str) -> str:
    return (
        f"{model}, numbers as printed in {points['source'].nunique()} sources, parbench's training-free methods only; a line is "
        "one method in one table of one source. Sources differ in prompts, subsets and unreduced scores: lines of different "
        "sources are no ranking. Fine lines lead to the unreduced score of the same table. Sources: results/published."
    )
