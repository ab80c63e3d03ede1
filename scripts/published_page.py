"""The pages on published numbers: ``docs/published.md``, and every cell in ``docs/published_cells.md``."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pandas as pd

from parbench.tables.published import COSTS, METRICS, read
from published_spread import COPIED, PER_CENT, PLACE, authors_and_others, contradictions, reduced, scores, unreduced

# Columns of the tables of coverage, and the beginnings of their models' names.
_FAMILIES = {
    "LLaVA-1.5": ("llava-1.5",),
    "NeXT": ("llava-next",),
    "OneVision": ("llava-onevision",),
    "LLaVA-Video": ("llava-video",),
    "Video-LLaVA": ("video-llava",),
    "Qwen2-VL": ("qwen2-vl",),
    "Qwen2.5-VL": ("qwen2.5-vl",),
    "Qwen3-VL": ("qwen3-vl",),
    "InternVL3": ("internvl3",),
    "others": ("",),
}
_AGAIN = "Written by `python scripts/write_published.py` from [results/published](../results/published/README.md)."
_UNITS = {"perception": "perception", "cognition": "cognition", "gpt-score": "GPT score"}


@cache
def _data() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All numbers, scores of training-free methods, unreduced cells, and reduced cells."""
    frame = read()
    rows = scores(frame)
    return frame, rows, unreduced(rows), reduced(rows)


def published_page() -> str:
    """docs/published.md."""
    frame, rows, none, cells = _data()
    parts = [_introduction(frame, none, cells), _how(frame), _baselines(none), _reduced(rows, cells), _authors(rows)]
    return _flowed([*parts, _coverage(frame)])


def cells_page() -> str:
    """docs/published_cells.md."""
    _, _, none, cells = _data()
    head = f"""# Every cell that several papers measured

{_AGAIN} [Published numbers](published.md) says how cells and copies are told apart. {len(cells)} cells,
{cells["model"].nunique()} models.

A value stands with its papers; `+ 3` says that three more papers have that row from there, or from where it is from.
*Spread* is the
highest value less the lowest. Papers without a known short name stand with their number."""
    parts = [head]
    for model in sorted({*none["model"], *cells["model"]}):
        base, of_model = none[none["model"] == model], cells[cells["model"] == model]
        parts.append(f"## {model}")
        if len(base):
            lines = [
                (_place([getattr(row, name) for name in PLACE[1:]]), f"{row.spread:.1f}", row.said)
                for row in base.sort_values(["benchmark", "metric"]).itertuples()
            ]
            parts += [f"### {model}, unreduced", _table(("benchmark", "spread", "values"), lines)]
        for place, part in of_model.groupby(PLACE[1:]):
            lines = [
                (_method(row), f"{100 * row.share:.4g} %", f"{row.spread:.1f}", row.said)
                for row in part.sort_values(["method", "variant", "share"], ascending=[True, True, False]).itertuples()
            ]
            parts += [f"### {model} on {_place(place)}", _table(("method", "tokens", "spread", "values"), lines)]
    return _flowed(parts)


def _flowed(parts: Iterable[str]) -> str:
    """The parts as a page, its paragraphs and items filled to one width."""
    filled = []
    for block in "\n\n".join(parts).split("\n\n"):
        if block.startswith(("#", "|")):
            filled.append(block)
            continue
        items = (" ".join(item.split()) for item in re.split(r"\n(?=\* )", block))
        filled.append("\n".join(_filled(item) for item in items))
    return "\n\n".join(filled) + "\n"


def _filled(item: str) -> str:
    indent = "  " if item.startswith("* ") else ""
    return textwrap.fill(item, 130, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _introduction(frame: pd.DataFrame, none: pd.DataFrame, cells: pd.DataFrame) -> str:
    base, cut = _per_cent(none), _per_cent(cells)
    base = base[~_told_by_value(base)]
    many = cut[cut["sources"] >= 3]
    return f"""# Published numbers

{_AGAIN}

`parbench table --published` prints the numbers themselves ([commands](commands.md#table)).

{len(frame):,} numbers of {frame["paper"].nunique()} papers and other sources, on {frame["model"].nunique()} models.
Nothing here is measured by parbench, and
nothing is averaged over sources. How far do papers agree?

* **Unreduced models.** {len(base)} times, several papers give the accuracy of one unreduced model on one benchmark. The median
  spread (highest value less lowest) is {base["spread"].median():.1f} points. A tenth spreads over more than
  {base["spread"].quantile(0.9):.1f}, the largest spread is {base["spread"].max():.1f}.
  Where three or more papers give it, the median
  is {base.loc[base["papers"] >= 3, "spread"].median():.1f}.
* **Reduced models.** {len(cut)} cells (a model, benchmark, method and share of tokens) are given by several papers that have not
  copied from one another. Their median spread is {cut["spread"].median():.1f} points. A tenth spreads over more than
  {cut["spread"].quantile(0.9):.1f}, the largest spread is {cut["spread"].max():.1f}. With three or more independent sources
  ({len(many)} cells) the median is {many["spread"].median():.1f}.
  {100 * (cut["spread"] > 1).mean():.0f} % of cells spread over more
  than one point.
* **Few numbers are independent.** {cells["papers"].sum():,} printed values of these cells are of
  {cells["sources"].sum():,} sources: the others count as copies."""


def _how(frame: pd.DataFrame) -> str:
    return f"""## How cells and copies are told apart

* **One cell** is one model, benchmark, metric, subset, setting (OCR tokens, CircularEval, F1), resolution, number of
  frames, method with its variant, way of counting
  tokens, and share of tokens (to 0.1 %). Trained methods are left out, and so are averages over benchmarks. What a source
  does not state is a
  setting of its own. There, unlike settings may hide in a spread: few sources state them.
* **One paper, one value**: the first that it prints. {contradictions(frame)} times, a paper prints several values
  (accuracy or POPE).
* **Copies.** Papers copy rows, mostly without saying so. Two papers count as one source of a method on a model if at least
  {100 * COPIED:.0f} % of the cells that
  both print are equal to the last digit, and a group counts with its oldest paper's value. EarlyTom says that it took rows
  from HoliTom. Methods
  without randomness may also be equal since two papers ran the same code: they are taken for copies here, whether their
  other cells differ or not.
* **Unreduced models** are not grouped: run twice, they answer the same. Equal values say nothing about copying there.
* Spreads of few papers are a lower bound of how far results scatter. No paper gives an interval."""


def _baselines(none: pd.DataFrame) -> str:
    head = """## Unreduced models

The highest value less the lowest, of papers that give the same unreduced model in the same setting. [Every
value](published_cells.md) has its papers; here `+ 13` says that thirteen more give that value.
Lines with † are left out of the figures above:
few sources state that setting, and it was inferred from the
unreduced value itself, so that its
spread is bounded."""
    parts = [head]
    for model, part in none.groupby("model"):
        told = _told_by_value(part)
        lines = [
            (_place([getattr(row, name) for name in PLACE[1:]]) + (" †" if told[row.Index] else ""), *_ends(row))
            for row in part.sort_values(["benchmark", "metric"]).itertuples()
        ]
        parts += [f"### {model}, unreduced", _table(("benchmark", "papers", "lowest", "highest", "spread"), lines)]
    return "\n\n".join(parts)


def _ends(row: Any) -> tuple[str, ...]:
    """Papers, the lowest and the highest value with the first paper that gives it, and the spread."""
    ends = row.said.split("; ")
    said = []
    for end in (ends[0], ends[-1]):
        first, *more = end.split(", ")
        said.append(f"{first} + {len(more)}" if more else first)
    return f"{row.papers}", *(said if len(ends) > 1 else (said[0], "the same")), f"{row.spread:.1f}"


def _told_by_value(none: pd.DataFrame) -> pd.Series:
    """Whether the setting was inferred from the unreduced value: what it is not far from."""
    return none["setting"].isin(["OCR tokens", "CircularEval"]) | (none["subset"] == "test-dev")


def _reduced(rows: pd.DataFrame, cells: pd.DataFrame) -> str:
    cut = _per_cent(cells)
    both = cut.dropna(subset=["retained"])
    relative = (100 * both["spread"] / both["high"]).median()
    thresholds = [(f"{100 * share:.0f} %", *_spreads(_per_cent(reduced(rows, share)))) for share in (0.25, COPIED, 0.9)]
    widest = cut.sort_values("spread", ascending=False).head(15)
    return f"""## Reduced models

Accuracy and POPE only, in points. A quarter of cells spreads less than the first figure, half less than the second, and so
on. [Every cell](published_cells.md),
also of MME and MM-Vet, stands on a page of its own, with its papers.

{_by("method", cut)}

{_by("model", cut)}

{_by("benchmark", cut)}

{_by("tokens", cut.assign(tokens=cut["share"].map(_band)))}

### Relative to the paper's own unreduced model

Where all papers of a cell print their unreduced model ({len(both)} cells), the median spread is {relative:.1f} % of the highest
accuracy, and {both["retained"].median():.1f} % of the highest share of accuracy retained.
{_helps(relative, float(both["retained"].median()))}

### With other thresholds for copies

{_table(("equal cells that make a copy", *_SPREADS), thresholds)}

### The widest cells

{_table(("model", "benchmark", "method", "tokens", "spread", "values"), _widest(widest))}"""


def _helps(before: float, after: float) -> str:
    if after < 0.8 * before:
        return "Much of the spread is that of unreduced models: compare retained shares, not accuracies."
    return "So unreduced models that differ explain little of it: papers differ in how they run methods."


def _widest(cells: pd.DataFrame) -> list[tuple[str, ...]]:
    places = [_place(place) for place in cells[PLACE[1:]].itertuples(index=False)]
    return [
        (row.model, place, _method(row), f"{100 * row.share:.4g} %", f"{row.spread:.1f}", row.said)
        for row, place in zip(cells.itertuples(), places, strict=True)
    ]


_SPREADS = ("cells", "25 %", "50 %", "75 %", "90 %", "largest")


def _spreads(cells: pd.DataFrame) -> tuple[str, ...]:
    return (f"{len(cells)}", *(f"{cells['spread'].quantile(part):.1f}" for part in (0.25, 0.5, 0.75, 0.9, 1)))


def _by(column: str, cells: pd.DataFrame) -> str:
    """Quantiles of the spread for each value of a column that has ten cells or more."""
    groups = [(str(value), part) for value, part in cells.groupby(column) if len(part) >= 10]
    groups.sort(key=lambda group: -group[1]["share"].max() if column == "tokens" else -len(group[1]))
    return _table((column, *_SPREADS), [(value, *_spreads(part)) for value, part in groups])


def _band(share: float) -> str:
    return next(
        text for low, text in ((0.3, "30 % and more"), (0.15, "15 to 30 %"), (0.08, "8 to 15 %"), (-1, "below 8 %")) if share >= low
    )


def _authors(rows: pd.DataFrame) -> str:
    cells = authors_and_others(rows)
    difference = cells["difference"]
    methods = [
        (str(method), f"{len(part)}", f"{part['difference'].median():+.1f}", f"{(part['difference'] > 0).mean() * 100:.0f} %")
        for method, part in sorted(cells.groupby("method"), key=lambda group: -len(group[1]))
        if len(part) >= 5
    ]
    return f"""## A method's authors and others

{len(cells)} cells (accuracy and POPE) have a value by the method's authors and at least one that others measured. The
authors' value is higher in
{100 * (difference > 0).mean():.0f} % and lower in {100 * (difference < 0).mean():.0f} %;
the median difference to the median of the others is
{difference.median():+.1f} points. Others may have run another
version, or counted tokens otherwise.

{_table(("method", "cells", "median difference", "authors higher"), methods)}"""


def _coverage(frame: pd.DataFrame) -> str:
    family = frame["model"].map(lambda model: next(name for name, starts in _FAMILIES.items() if model.startswith(starts)))
    frame = frame.assign(family=family)
    models = [
        (
            str(model),
            f"{len(part):,}",
            f"{part['paper'].nunique()}",
            f"{part['method'].nunique()}",
            f"{part.loc[~part['metric'].isin(COSTS), 'benchmark'].nunique()}",
            f"{part['metric'].isin(COSTS).sum() or ''}",
        )
        for model, part in sorted(frame.groupby("model"), key=lambda group: -len(group[1]))
    ]
    scored = frame[frame["metric"].isin([name for name in METRICS if name not in ("relative", "mean-accuracy")])]
    return f"""## Coverage

{_table(("model", "numbers", "papers", "methods", "benchmarks", "times and memory"), models)}

### Methods

Papers that give the method (trained ones included) / benchmarks. `none` is the unreduced model.

{_matrix(scored, "method", "benchmark")}

### Benchmarks

Papers that give the benchmark / methods.

{_matrix(scored, "benchmark", "method")}"""


def _matrix(frame: pd.DataFrame, rows: str, counted: str) -> str:
    """Papers and what is counted, by family, in two tables that are not too wide; most papers first."""
    names = list(_FAMILIES)
    return "\n\n".join(_half(frame[frame["family"].isin(half)], rows, counted, half) for half in (names[:5], names[5:]))


def _half(frame: pd.DataFrame, rows: str, counted: str, families: Sequence[str]) -> str:
    order = frame.groupby(rows)["paper"].nunique().sort_index().sort_values(ascending=False, kind="stable").index
    lines = []
    for value in order:
        part = frame[frame[rows] == value]
        cells = [part[part["family"] == name] for name in families]
        lines.append(
            (str(value), *(f"{cell['paper'].nunique()} / {cell[counted].nunique()}" if len(cell) else "" for cell in cells))
        )
    return _table((rows, *families), lines)


def _per_cent(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[cells["metric"].isin(PER_CENT)]


def _place(place: Sequence[object]) -> str:
    """Benchmark and setting in words."""
    benchmark, metric, subset, setting, resolution, frames = map(str, place)
    points = {"points": "perception + cognition" if benchmark == "mme" else "points"}
    about = [(_UNITS | points).get(metric, ""), subset, setting, resolution, frames and f"{frames} frames"]
    said = ", ".join(text for text in about if text)
    return f"{benchmark} ({said})" if said else benchmark


def _method(row: Any) -> str:
    method, variant, counted = (str(getattr(row, name)) for name in ("method", "variant", "counted"))
    said = ", ".join(text for text in (variant, counted) if text)
    return f"{method} ({said})" if said else method


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of Markdown: text to the left, figures to the right."""
    lines = [[cell.replace("|", "\\|").replace("*", "\\*") for cell in line] for line in lines]
    figures = [all(not line[place] or line[place][:1] in "0123456789+-" for line in lines) for place in range(len(head))]
    figures = [figure and name not in ("values", "lowest", "highest") for figure, name in zip(figures, head, strict=True)]
    rule = "|".join("---:" if figure else "---" for figure in figures)
    return "\n".join([f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(line)} |" for line in lines)])
