"""The official metrics of POPE and MME as a table."""

from __future__ import annotations

import pandas as pd

from parbench.tables.comparing import Comparison
from parbench.tables.text import number
from parbench.tables.views import Cell, View, head, marked, off_budget

_POPE = (("accuracy", "accuracy %"), ("precision", "precision %"), ("recall", "recall %"), ("f1", "F1 %"), ("yes_ratio", "yes %"))
_MME = (("points", ""), ("accuracy", "accuracy"), ("accuracy_plus", "accuracy+"))


def official_view(comparison: Comparison) -> View | None:
    """One row per run, for POPE also per category of questions; None if the benchmark has no official metrics."""
    found = [row for row in comparison.frame["official"] if row]
    if not found:
        return None
    return _pope(comparison) if "all" in found[0] else _mme(comparison)


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of a comparison with one column per official metric (``official_random_f1``) instead of ``official``."""
    rows = [
        {f"official_{part}_{key}": value for part, values in figures.items() for key, value in values.items()}
        for figures in frame["official"]
    ]
    plain = frame.drop(columns="official")
    return plain.join(pd.DataFrame(rows, index=frame.index)) if any(rows) else plain


def _pope(comparison: Comparison) -> View:
    frame, rows, breaks = comparison.frame, [], []
    labels = [marked(row) for _, row in frame.iterrows()]
    for category in dict.fromkeys(name for figures in frame["official"] for name in figures):
        for label, figures in zip(labels, frame["official"], strict=True):
            mine = figures.get(category, {})
            values = [number(mine.get(key, float("nan")), 100) for key, _ in _POPE]
            rows.append(tuple(map(Cell, (label, category, *values))))
        breaks.append(len(rows) - 1)
    notes = (
        "precision, recall, F1: of the answer yes, as in lmms-eval: an answer that is neither yes nor no is wrong, but not a miss",
        "yes %: share of the model's answers",
        *off_budget(frame),
    )
    columns = ("method", "questions", *(title for _, title in _POPE))
    return View(f"{head(comparison)}: POPE's metrics", columns, tuple(rows), tuple(breaks[:-1]), notes)


def _mme(comparison: Comparison) -> View:
    frame, columns = comparison.frame, ["method"]
    there = [name for name in ("perception", "cognition") if any(name in figures for figures in frame["official"])]
    for name in there:
        columns += [title or name for _, title in _MME]
    rows = []
    for (_, row), figures in zip(frame.iterrows(), frame["official"], strict=True):
        values = [number(figures.get(name, {}).get(key, float("nan"))) for name in there for key, _ in _MME]
        rows.append(tuple(map(Cell, (marked(row), *values))))
    notes = (
        "points are the sum, over categories, of accuracy and accuracy+ (images with both questions right), each in per cent; by "
        "category: official in metrics.json",
        *off_budget(frame),
    )
    return View(f"{head(comparison)}: MME's points", tuple(columns), tuple(rows), (), notes)
