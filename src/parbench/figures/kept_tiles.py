"""What pictures of kept tokens have in common: tiles with evidence boxes, answers and the note below."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import pandas as pd

from parbench.figures.images import Images
from parbench.figures.kept_choice import Choice
from parbench.figures.style import BAD, GOOD, NEEDED, Medium, ink
from parbench.figures.sweep import Sweep
from parbench.figures.views import SIDE, Sheet

# Brightness of dropped patches.
DIMMED = 0.2
# Distance in pixels between an evidence box and the line around it, so that the line does not cover the object's outline.
_ROOM = 7
_COARSE = " Small, beside: tokens of all of the image at a lower resolution."


def short(question: str, medium: Medium) -> str:
    """As much of a question as fits into a line."""
    return wrap(question, 46 if medium.narrow else 110)[0]


def failed(line: Mapping[str, Any]) -> bool:
    """Whether a sample has no tokens to show."""
    return bool(pd.notna(line["error"]) or not line["kept"])


def answered(line: Mapping[str, Any]) -> tuple[str, str]:
    """The answer of a sample, marked as right or wrong, and the colour of this text."""
    right = line["score"] >= 0.5
    return f"{'✓' if right else '✗'} {line['prediction'].strip()[:18] or '(nothing)'}", ink(GOOD if right else BAD)


def recalled(line: Mapping[str, Any]) -> str:
    """The evidence recall of a sample; empty if it is unknown."""
    return "" if pd.isna(line["evidence_recall"]) else f"recall {100 * line['evidence_recall']:.0f} %"


def show(axis: Any, drawn: Sheet) -> None:
    """Draw a sheet with its evidence boxes into axes, in its own pixels."""
    from matplotlib.patches import Rectangle

    axis.imshow(drawn.pixels.clip(0, 1), extent=(0, SIDE, len(drawn.pixels), 0), interpolation="auto")
    axis.set_autoscale_on(False)
    for x0, y0, x1, y1 in drawn.boxes:
        for colour, width in (("black", 2.0), (NEEDED, 1.1)):
            corner, size = (x0 - _ROOM, y0 - _ROOM), (x1 - x0 + 2 * _ROOM, y1 - y0 + 2 * _ROOM)
            axis.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))


def note(sweep: Sweep, images: Images, choice: Choice) -> str:
    """The text below a picture."""
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
