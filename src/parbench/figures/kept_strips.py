"""Film strips of the patches that methods keep of a clip: a row per method, the frames from left to right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parbench.figures.frame import axes_at, lines_beneath
from parbench.figures.images import Images, by_question
from parbench.figures.kept_choice import Choice
from parbench.figures.kept_tiles import DIMMED, answered, failed, note, recalled, short, show
from parbench.figures.labels import mark, width_of
from parbench.figures.looks import Look
from parbench.figures.style import Medium, styled
from parbench.figures.sweep import Sweep
from parbench.figures.views import SIDE, View, frames_of, sheet
from parbench.results.kept_bitmap import kept_bits

# Maximum number of frames, on a screen and in a column of a paper.
_FRAMES = (16, 8)
# From this number of frames on, they are small enough for the rows of two questions on a screen.
_MANY = 8
# Inches between frames, and between rows.
_BESIDE, _BELOW = 0.03, 0.08
# Height of a line of text in font sizes, and how much wider bold text is.
_LINE, _BOLD = 1.4, 1.15


@dataclass(frozen=True)
class _Row:
    """A strip with the text on its left.

    Attributes:
        frames: Its frames; empty for a sample that failed.
        kept: For each frame, which of its tokens are kept; None to dim nothing.
        said: Lines of text, each with matplotlib's settings for it.
        look: The look of the method; None for the clip itself.
    """

    frames: Sequence[View]
    kept: Sequence[np.ndarray] | None
    said: Sequence[tuple[str, dict[str, Any]]]
    look: Look | None = None


@dataclass(frozen=True)
class _Room:
    """Sizes in inches: of the font, of the text on the left, of a frame, and of a row."""

    font: float
    left: float
    wide: float
    high: float
    row: float


def kept_strips(sweep: Sweep, images: Images, choice: Choice, medium: Medium) -> Any:
    """Draw strips: for each question the clip, then a row per method, with dropped patches dimmed and the answer on the left.

    Args:
        sweep: The runs.
        images: The clips of their questions.
        choice: What to show.
        medium: The medium of the figure.

    Returns:
        A matplotlib figure.
    """
    # All questions are about one clip.
    times = images.times(choice.questions[0])
    questions = choice.questions[: 2 if len(times) >= _MANY and not medium.narrow else 1]
    shown = np.linspace(0, len(times) - 1, min(len(times), _FRAMES[medium.narrow])).round().astype(int)
    samples = by_question(sweep.answers.frame[sweep.answers.frame["id"].isin(questions)])
    points = [sweep.points.iloc[run] for run in choice.runs]
    blocks = []
    for question in questions:
        seen = images.view(question)
        lines = [samples[point["run_id"], question] for point in points]
        rows = [_clip(seen, lines[0], shown)]
        rows += [_method(seen, line, point, shown) for line, point in zip(lines, points, strict=True)]
        blocks.append((short(f"{lines[0]['question']}", medium), rows))
    with styled(medium) as figure_class:
        beneath, draw_note = lines_beneath(medium, note(sweep, images, choice) + _frames_said(len(shown), len(times)))
        room = _room([row for _, rows in blocks for row in rows], medium)
        heading = 2.9 * room.font
        whole = sum(heading + len(rows) * (room.row + _BELOW) for _, rows in blocks) + beneath
        figure = figure_class(figsize=(medium.width, whole), dpi=medium.dpi)
        top = whole
        for said, rows in blocks:
            place = {"x": _BELOW / medium.width, "y": (top - 1.6 * room.font) / whole}
            figure.text(**place, s=said, va="bottom", fontweight="bold")
            top -= heading
            for row in rows:
                panels = _draw(figure, row, room, top)
                if row.look is None:
                    for panel, second in zip(panels, shown, strict=True):
                        _second(panel, times[second], medium)
                top -= room.row + _BELOW
        draw_note(figure)
        return figure


def _clip(seen: View, line: Mapping[str, Any], shown: np.ndarray) -> _Row:
    frames = frames_of(seen)
    return _Row([frames[place] for place in shown], None, [("expected:", {"color": "0.35"}), (f"{line['target']}"[:20], {})])


def _method(seen: View, line: Mapping[str, Any], point: pd.Series, shown: np.ndarray) -> _Row:
    own = point["look"]
    name = (point["label"], {"color": own.ink, "fontweight": "bold"})
    if failed(line):
        return _Row([], None, [name, ("failed", {})], own)
    frames, kept = frames_of(seen), kept_bits(line["kept"][0], seen.layout.tokens)
    parts = np.split(kept, np.cumsum([frame.layout.tokens for frame in frames])[:-1])
    answer, colour = answered(line)
    said = [(text, {"color": "0.35"}) for text in (recalled(line), f"{kept.sum()} patches") if text]
    answer_line = (answer, {"color": colour, "fontweight": "bold"})
    return _Row([frames[place] for place in shown], [parts[place] for place in shown], [name, answer_line, *said], own)


def _room(rows: Sequence[_Row], medium: Medium) -> _Room:
    font, count = medium.font / 72, max(len(row.frames) for row in rows)
    # The marker of a method is on the left of its name.
    left = _BELOW + 1.5 * font + _BOLD * width_of([text for row in rows for text, _ in row.said], medium.font) + font
    wide = (medium.width - left - _BELOW - (count - 1) * _BESIDE) / count
    high = wide * max(frame.sheet_height for row in rows for frame in row.frames) / SIDE
    return _Room(font, left, wide, high, max(high, max(len(row.said) for row in rows) * _LINE * font))


def _draw(figure: Any, row: _Row, room: _Room, top: float) -> list[Any]:
    """Draw a row that begins ``top`` inches above the bottom of a figure. Returns the axes of its frames."""
    beside = axes_at(figure, _BELOW, top - room.row, room.left - _BELOW, room.row)
    beside.set(xlim=(0, room.left - _BELOW), ylim=(room.row, 0))
    beside.set_axis_off()
    for number, (text, look) in enumerate(row.said):
        beside.text(1.5 * room.font, (number + 0.5) * _LINE * room.font, text, va="center_baseline", **look)
    if row.look is not None:
        mark(beside, row.look, 0.5 * room.font, 0.5 * _LINE * room.font, clip_on=False)
    panels = []
    for number, frame in enumerate(row.frames):
        panel = axes_at(figure, room.left + number * (room.wide + _BESIDE), top - room.high, room.wide, room.high)
        panel.set_axis_off()
        show(panel, sheet(frame) if row.kept is None else sheet(frame, row.kept[number].astype(float), DIMMED))
        panels.append(panel)
    return panels


def _second(panel: Any, second: float, medium: Medium) -> None:
    panel.text(0, 1.02, f"{second:.3g} s", transform=panel.transAxes, va="bottom", color="0.35", fontsize=medium.font - 1)


def _frames_said(shown: int, every: int) -> str:
    some = "" if shown == every else f" {shown} of its {every} frames, evenly spaced."
    return f" Above each frame: when it is shown.{some}"
