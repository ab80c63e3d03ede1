"""A gallery of the patches that methods keep of one image, for several questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError, unknown
from parbench.figures.frame import axes_at, lines_beneath
from parbench.figures.images import Images, by_question, differing_questions, single
from parbench.figures.labels import mark
from parbench.figures.looks import CONTROL
from parbench.figures.style import BAD, GOOD, NEEDED, Medium, ink, styled
from parbench.figures.sweep import Sweep
from parbench.figures.views import SIDE, Sheet, View, sheet
from parbench.results.kept_bitmap import kept_bits

# Maximum number of methods and of questions, on a screen and in a column of a paper.
_METHODS, _QUESTIONS = (5, 3), (3, 2)
_SEED = 0
# With more patches per token than this, nearly every patch is in some token, so there is nothing to see.
_MIXED = 1.5
# Distance in pixels between an evidence box and the line around it, so that the line does not cover the object's outline.
_ROOM = 7
_COARSE = " Small, beside: tokens of all of the image at a lower resolution."
# Brightness of dropped patches.
_DIMMED = 0.2


@dataclass(frozen=True)
class Choice:
    """The contents of a gallery.

    Attributes:
        runs: Indices of its runs among the points of the sweep, in order.
        questions: Ids of its questions, in order.
        image: Id of the image.
        how: A sentence for the note on how the image was drawn; empty if it was given.
        merged: Methods without a column, because their tokens are merged from many patches.
    """

    runs: list[int]
    questions: list[str]
    image: str
    how: str
    merged: tuple[str, ...] = ()


def choose(sweep: Sweep, image: str = "") -> Choice:
    """Choose methods and random at the smallest budget, and an image with questions on which the methods differ.

    The most accurate method of each group comes first, then the most accurate of the others. Methods that merge many patches
    into each token are left out, since nearly every patch is in one of their tokens.

    Args:
        sweep: The runs.
        image: Id of the image; empty to draw one.

    Raises:
        ParbenchError: No run has a budget, no question has exactly one image, or the image is unknown.
    """
    if not sweep.budgets:
        raise ParbenchError("no run has a budget")
    runs, merged = _runs(sweep)
    samples = single(sweep.answers.frame)
    if samples.empty:
        raise ParbenchError("no question has exactly one image")
    methods = [run for run in runs if sweep.points["look"][run].group != CONTROL]
    told = differing_questions(samples, [sweep.points["run_id"][run] for run in methods or runs])
    names = sorted(samples["image_id"].unique())
    if image and image not in names:
        raise unknown("image", image, names[:200])
    chosen = image or _drawn(told, names)
    questions = _questions(samples[samples["image_id"] == chosen], told)
    among = f"drawn with seed {_SEED} among those with most questions that these methods answer differently. "
    return Choice(runs, questions, chosen, "" if image else f"{sweep.comparison.visual.capitalize()} {among}", merged)


def _runs(sweep: Sweep) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the shown runs, and the names of the methods left out because they merge."""
    here = sweep.reduced[sweep.reduced["budget"] == sweep.budgets[-1]]
    ranked = here.sort_values("value", ascending=False, kind="stable")
    selects = np.array([_selects(sweep, int(str(place))) for place in ranked.index], dtype=bool)
    seen = ranked[selects] if selects.any() else ranked
    group = seen["look"].map(lambda own: own.group)
    methods, controls = seen[group != CONTROL], seen[group == CONTROL]
    random = controls[controls["method"] == "random"]
    best = methods.groupby(group[methods.index], sort=False).head(1)
    order = [*best.index, *methods.index.difference(best.index, sort=False)][: _METHODS[0] - len(random)]
    rest = [*random.index, *controls.index.difference(random.index, sort=False)]
    merged = sorted(set(ranked["series"]) - set(seen["series"]))
    return [int(str(place)) for place in [*order, *rest][: _METHODS[0]]], tuple(merged)


def _selects(sweep: Sweep, run: int) -> bool:
    """Whether a run's tokens come from about as many patches as there are tokens."""
    samples = single(sweep.answers.frame[sweep.answers.frame["run_id"] == sweep.points["run_id"][run]]).head(50)
    patches = sum(int(masks[0], 16).bit_count() for masks in samples["kept"])
    return patches <= _MIXED * float(samples["tokens_kept"].sum())


def _drawn(told: pd.DataFrame, names: Sequence[str]) -> str:
    """Draw an image from those with the most kinds of questions on which the methods differ."""
    if told.empty:
        return str(np.random.default_rng(_SEED).choice(names))
    kinds = told.assign(kind=told["skill"].fillna(told["id"])).groupby("image_id")["kind"].nunique()
    best = min(_QUESTIONS[0], kinds.max())
    return str(np.random.default_rng(_SEED).choice(sorted(kinds.index[kinds >= best])))


def _questions(samples: pd.DataFrame, told: pd.DataFrame) -> list[str]:
    """Ids of an image's questions, at most as many as fit: one of each skill first, and of these those on which methods differ."""
    questions = samples.drop_duplicates("id")
    order = questions.assign(same=~questions["id"].isin(told["id"]), repeats=0)
    order["repeats"] = order.sort_values("same", kind="stable").groupby(order["skill"].fillna("")).cumcount()
    return order.sort_values(["same", "repeats"], kind="stable")["id"].head(_QUESTIONS[0]).tolist()


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
        beneath, draw_note = lines_beneath(medium, _note(sweep, images, choice))
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
            _show(first, sheet(seen))
            first.text(0, -0.35 * size / tile * SIDE, _short(f"{asked['question']}", medium), va="bottom", fontweight="bold")
            first.text(0, side + 0.4 * size / tile * SIDE, f"expected: {asked['target']}", va="top")
            for column, run in enumerate(columns, 1):
                axis, point = panel(row, column), sweep.points.iloc[run]
                line = samples[point["run_id"], question]
                _tile(axis, seen, line, size / tile * SIDE, medium)
                if row == 0:
                    _head(axis, point, size / tile * SIDE)
        draw_note(figure)
        return figure


def _short(question: str, medium: Medium) -> str:
    return wrap(question, 46 if medium.narrow else 110)[0]


def _head(axis: Any, point: pd.Series, size: float) -> None:
    own = point["look"]
    mark(axis, own, 0.5 * size, -2.9 * size, clip_on=False)
    axis.text(1.5 * size, -2.9 * size, point["series"], color=own.ink, va="center_baseline", fontweight="bold")


def _tile(axis: Any, seen: View, line: Mapping[str, Any], size: float, medium: Medium) -> None:
    if pd.notna(line["error"]) or not line["kept"]:
        axis.set(xlim=(0, SIDE), ylim=(seen.sheet_height, 0))
        axis.text(0, seen.sheet_height / 2, "failed", va="center")
        return
    kept = kept_bits(line["kept"][0], seen.layout.tokens)
    _show(axis, sheet(seen, kept.astype(float), _DIMMED))
    right = line["score"] >= 0.5
    answer = f"{'✓' if right else '✗'} {line['prediction'].strip()[:18] or '(nothing)'}"
    side = seen.sheet_height
    axis.text(0, side + 0.4 * size, answer, va="top", color=ink(GOOD if right else BAD), fontweight="bold")
    recall = "" if pd.isna(line["evidence_recall"]) else f"recall {100 * line['evidence_recall']:.0f} %"
    said = [recall] if medium.narrow else [recall, f"{kept.sum()} patches"]
    axis.text(
        0,
        side + 1.75 * size,
        ", ".join(text for text in said if text),
        va="top",
        color="0.35",
        fontsize=medium.font - 1,
    )


def _show(axis: Any, drawn: Sheet) -> None:
    from matplotlib.patches import Rectangle

    axis.imshow(drawn.pixels.clip(0, 1), extent=(0, SIDE, len(drawn.pixels), 0), interpolation="auto")
    axis.set_autoscale_on(False)
    for x0, y0, x1, y1 in drawn.boxes:
        for colour, width in (("black", 2.0), (NEEDED, 1.1)):
            corner, size = (x0 - _ROOM, y0 - _ROOM), (x1 - x0 + 2 * _ROOM, y1 - y0 + 2 * _ROOM)
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))


def _note(sweep: Sweep, images: Images, choice: Choice) -> str:
    least, of = sweep.budgets[-1], sweep.comparison
    tokens = f"{100 * least:g} % of its tokens" if least < 1 else f"{least:g} tokens"
    what = f"{of.model}, {sweep.comparison.visual} {choice.image} of {of.dataset}, {tokens}."
    return (
        f"{what} {choice.how}Dark: patches that are in no token after the last stage; blue boxes: around what the question needs; "
        f"recall: how much of that is kept.{_COARSE if images.coarse else ''}{_unseen(choice)}"
    )


def _unseen(choice: Choice) -> str:
    """A sentence about the methods left out because they merge; empty if there are none."""
    if not choice.merged:
        return ""
    return (
        " Not shown, since each of their tokens is merged from many patches, so that nearly every patch is in one: "
        f"{', '.join(choice.merged)}."
    )
