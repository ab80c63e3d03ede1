"""A gallery of the patches that methods keep of one image, for several questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from parbench.figures.frame import axes_at, lines_beneath
from parbench.figures.images import Images, by_question
from parbench.figures.kept_choice import Choice
from parbench.figures.kept_tiles import DIMMED, answered, failed, note, recalled, short, show
from parbench.figures.labels import mark
from parbench.figures.style import Medium, styled
from parbench.figures.sweep import Sweep
from parbench.figures.views import SIDE, View, sheet
from parbench.results.kept_bitmap import kept_bits

# Maximum number of methods and of questions, on a screen and in a column of a paper.
_METHODS, _QUESTIONS = (5, 3), (3, 2)


def gallery(sweep: Sweep, images: Images, choice: Choice, medium: Medium) -> Any:
    """Draw a gallery: a row per question, a column per method, each with dropped patches dimmed and the answer below.

    Args:
        sweep: The runs.
        images: The images of their questions.
        choice: What to show.
        medium: The medium of the figure.

    Returns:
        A matplotlib figure.
    """
    columns = choice.runs[: _METHODS[medium.narrow] - 1] + choice.runs[-1:] if medium.narrow else choice.runs
    questions = choice.questions[: _QUESTIONS[medium.narrow]]
    samples = by_question(sweep.answers.frame[sweep.answers.frame["id"].isin(questions)])
    size, gap = medium.font / 72, 0.07
    with styled(medium) as figure_class:
        beneath, draw_note = lines_beneath(medium, note(sweep, images, choice))
        tile = (medium.width - gap * (len(columns) + 2)) / (len(columns) + 1)
        head, above, below = 2.0 * size, 1.9 * size, 3.3 * size
        # All questions are about one image.
        side = images.view(questions[0]).sheet_height
        high = tile * side / SIDE
        whole = head + len(questions) * (above + high + below) + beneath
        figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)

        def panel(row: int, column: int) -> Any:
            top = whole - head - row * (above + high + below) - above
            axis = axes_at(figure, gap + column * (tile + gap), top - high, tile, high)
            axis.set_axis_off()
            return axis

        for row, question in enumerate(questions):
            seen = images.view(question)
            asked = samples[sweep.points["run_id"][columns[0]], question]
            first = panel(row, 0)
            show(first, sheet(seen))
            first.text(0, -0.35 * size / tile * SIDE, short(f"{asked['question']}", medium), va="bottom", fontweight="bold")
            first.text(0, side + 0.4 * size / tile * SIDE, f"expected: {asked['target']}", va="top")
            for column, run in enumerate(columns, 1):
                axis, point = panel(row, column), sweep.points.iloc[run]
                line = samples[point["run_id"], question]
                _tile(axis, seen, line, size / tile * SIDE, medium)
                if row == 0:
                    _head(axis, point, size / tile * SIDE)
        draw_note(figure)
        return figure


def _head(axis: Any, point: pd.Series, size: float) -> None:
    own = point["look"]
    mark(axis, own, 0.5 * size, -2.9 * size, clip_on=False)
    axis.text(1.5 * size, -2.9 * size, point["series"], color=own.ink, va="center_baseline", fontweight="bold")


def _tile(axis: Any, seen: View, line: Mapping[str, Any], size: float, medium: Medium) -> None:
    if failed(line):
        axis.set(xlim=(0, SIDE), ylim=(seen.sheet_height, 0))
        axis.text(0, seen.sheet_height / 2, "failed", va="center")
        return
    kept = kept_bits(line["kept"][0], seen.layout.tokens)
    show(axis, sheet(seen, kept.astype(float), DIMMED))
    side, (answer, colour) = seen.sheet_height, answered(line)
    axis.text(0, side + 0.4 * size, answer, va="top", color=colour, fontweight="bold")
    said = [recalled(line)] if medium.narrow else [recalled(line), f"{kept.sum()} patches"]
    axis.text(
        0,
        side + 1.75 * size,
        ", ".join(text for text in said if text),
        va="top",
        color="0.35",
        fontsize=medium.font - 1,
    )
