"""A heat map of accuracy by skill, since the loss from dropping tokens depends on the question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.frame import axes_at, lines_beneath
from parbench.figures.labels import row_names, width_of
from parbench.figures.looks import look
from parbench.figures.style import Medium, styled
from parbench.figures.sweep import Skills, Sweep

# Percentage points of full colour, and the maximum number of panels.
_FULL, _MOST = 60.0, 3


def skill_map(sweep: Sweep, skills: Skills, medium: Medium) -> Any:
    """Draw accuracy by method (row), skill (column) and budget (panel). The colour is the difference from none.

    Args:
        sweep: The runs.
        skills: Their accuracy by skill.
        medium: The medium of the figure.

    Returns:
        A matplotlib figure.
    """
    budgets = _budgets(sweep, 1 if medium.narrow else _MOST)
    rows = _rows(sweep, budgets)
    names = [str(name) for name in rows.index]
    size, point = medium.font, 1 / 72
    head, gap, row_height = width_of(skills.names, size) + 0.32, 0.12, 1.55 * size * point
    left = width_of(names, size) + 2.4 * size * point
    note = _note(sweep, skills)
    with styled(medium) as figure_class:
        beneath, draw_note = lines_beneath(medium, note)
        whole = head + row_height * (len(names) + 1) + beneath + 0.05
        figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)
        width = (medium.width - left - gap * len(budgets)) / len(budgets)
        for number, budget in enumerate(budgets):
            height = row_height * (len(names) + 1)
            panel = axes_at(figure, left + number * (width + gap), beneath + 0.05, width, height)
            places = [None if pd.isna(place) else int(place) for place in rows[budget]]
            _panel(panel, sweep, skills, places, medium)
            title = "own rule" if budget is None else f"{budget:g} tokens"
            panel.text(0, 1 + (head - 0.18) / height, title, transform=panel.transAxes, fontweight="bold", va="bottom")
            if number == 0:
                looks = dict(zip(sweep.points["series"], sweep.points["look"], strict=True))
                row_names(panel, medium, [("none", look("none")), *((name, looks[name]) for name in names)])
        draw_note(figure)
        return figure


def _budgets(sweep: Sweep, most: int) -> list[float | None]:
    """The smallest budgets, at most ``most``; [None], which stands for the methods' own rules, if there are none."""
    return list(sweep.budgets[-most:]) or [None]


def _rows(sweep: Sweep, budgets: list[float | None]) -> pd.DataFrame:
    """The index of the run of each series (row) at each budget (column), sorted by accuracy at the smallest budget."""
    reduced = sweep.reduced
    found: dict[str, dict[float | None, int]] = {}
    for place, point in reduced.iterrows():
        budget = None if pd.isna(point["budget"]) else float(point["budget"])
        if budget in budgets:
            found.setdefault(point["series"], {})[budget] = int(str(place))
    frame = pd.DataFrame(
        [[places.get(budget) for budget in budgets] for places in found.values()],
        index=list(found),
        columns=range(len(budgets)),
    )
    frame.columns = pd.Index(budgets, dtype=object)

    def rank(name: str) -> tuple[float, ...]:
        places = found[name]
        return tuple(-reduced["value"].get(places.get(budget, -1), -1.0) for budget in reversed(budgets))

    return frame.loc[sorted(found, key=rank)]


def _panel(panel: Any, sweep: Sweep, skills: Skills, places: list[int | None], medium: Medium) -> None:
    none = int(np.flatnonzero(sweep.points["method"] == "none")[0]) if sweep.none is not None else None
    shown = [none, *places]
    against = np.array([[np.nan] * len(skills.names) if place is None else skills.against[place] for place in shown], dtype=float)
    against[0] = np.nan
    panel.imshow(np.ma.masked_invalid(against), cmap="PuOr", vmin=-_FULL, vmax=_FULL, aspect="auto", interpolation="nearest")
    for row, place in enumerate(shown):
        for column in range(len(skills.names)) if place is not None else ():
            dark = abs(against[row, column]) > 0.72 * _FULL
            panel.text(
                column,
                row,
                f"{skills.accuracy[place, column]:.0f}",
                ha="center",
                va="center_baseline",
                fontsize=medium.font - 0.6,
                color="white" if dark else "0.1",
                fontweight="bold" if row and skills.clear[place, column] else "normal",
            )
        if place is None and row:
            panel.text(
                len(skills.names) / 2 - 0.5,
                row,
                "not run",
                ha="center",
                va="center_baseline",
                color="0.6",
                fontsize=medium.font - 1,
            )
    for edge in panel.spines.values():
        edge.set_visible(False)
    panel.set_xticks(
        range(len(skills.names)),
        skills.names,
        rotation=90 if medium.narrow else 60,
        ha="center" if medium.narrow else "left",
        rotation_mode="default" if medium.narrow else "anchor",
    )
    panel.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, left=False, labelleft=False, length=0, pad=2)
    panel.axhline(0.5, color="0.15", linewidth=0.8)


def _note(sweep: Sweep, skills: Skills) -> str:
    asked = ", ".join(f"{name} {count}" for name, count in sweep.comparison.skills.items())
    if np.isnan(skills.against).all():
        return f"{sweep.about}: accuracy in %. Questions: {asked}."
    return (
        f"{sweep.about}: accuracy in %, orange below no reduction, purple above, full colour at {_FULL:g} points. Bold: the 95 % "
        f"interval of the difference, images resampled, leaves zero out (not corrected for the number of cells). Questions: "
        f"{asked}."
    )
