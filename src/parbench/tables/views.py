"""The views of a comparison: tables of text cells for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pandas as pd

from parbench.results.delivery import FAR, MARK, in_words
from parbench.statistics.bootstrap import LEVEL
from parbench.tables.cautions import cautions, no_share
from parbench.tables.comparing import Comparison
from parbench.tables.text import ends, number, p_text, ranged
from parbench.tables.turns import accuracy_columns, cost_columns

VIEWS = ("answers", "official", "tokens", "controls", "skills", "turns", "costs", "stages")
# The default views; stages are for variants of one method.
USUAL = ("answers", "official", "tokens", "controls", "skills", "turns", "costs")


class Cell(NamedTuple):
    """A table cell: text, bold for the best row."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class View:
    """A table of text.

    Attributes:
        title: Title above the table.
        columns: Headers; the first column is left-aligned, the others right.
        rows: Cells.
        breaks: Rows after which a group ends.
        notes: Footnotes below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    breaks: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


_UNSCORED = "no accuracy: only the benchmark's server has the answers; submit submission.* of the run's folder"

# A column: its header, and the text of a row.
Column = tuple[str, Callable[[Any], str]]


def views(comparison: Comparison, wanted: Sequence[str] = USUAL) -> list[View]:
    """The wanted views that are not empty. Common footnotes are below the last."""
    from parbench.tables.official import official_view

    if comparison.frame["score"].isna().all():
        return [_noted(_tokens(comparison), replace(comparison, notes=(_UNSCORED, *comparison.notes)))]

    makers = {
        "answers": _answers,
        "official": official_view,
        "tokens": _tokens,
        "controls": _controls,
        "skills": _skills,
        "turns": _turns,
        "costs": _costs,
        "stages": _stages,
    }
    found = [makers[name](block) for name in VIEWS if name in wanted for block in comparison.blocks]
    made = [view for view in found if view is not None]
    return [*made[:-1], _noted(made[-1], comparison)] if made else []


def _difference(row: Any, name: str, comparison: Comparison) -> str:
    """A difference with its interval, starred if significant after correction."""
    measure = comparison.measure
    text = ranged(ends(row, name), measure.scale, measure.digits, signed=True)
    return f"{text} *" if row.get(f"{name}_p_holm", 1.0) < 1 - LEVEL else text


def _unit(comparison: Comparison) -> str:
    return f"{comparison.measure.title} %" if comparison.measure.scale == 100 else comparison.measure.title


def _view(comparison: Comparison, title: str, columns: Sequence[Column], notes: Sequence[str] = ()) -> View:
    frame = comparison.frame
    # Omit columns that are empty in every row.
    texts = {header: [cell(row) for _, row in frame.iterrows()] for header, cell in columns}
    shown = [header for header, cells in texts.items() if any(cells)]
    rows = tuple(
        tuple(Cell(texts[header][place], header == _unit(comparison) + " [95 %]" and bool(best)) for header in shown)
        for place, best in enumerate(frame["best"])
    )
    budgets = frame["budget"].where(frame["method"] != "none", -1.0).fillna(0.0).tolist()
    breaks = tuple(place for place in range(len(budgets) - 1) if budgets[place] != budgets[place + 1])
    whole = head(comparison)
    return View(f"{whole}: {title}" if title else whole, tuple(shown), rows, breaks, (*notes, *off_budget(frame)))


def head(comparison: Comparison) -> str:
    """The title of a table: model, data set, questions and images or clips."""
    asked = f"{comparison.questions} questions about {comparison.images} {comparison.visual}s"
    whole = f"{comparison.model} on {comparison.dataset}: {asked}"
    return f"{whole}: {comparison.block}" if comparison.block else whole


def marked(row: Any) -> str:
    """The label of a row, marked if its mean is far from the budget."""
    return f"{row['label']} {MARK}" if row["far_off_budget"] else row["label"]


def off_budget(frame: pd.DataFrame) -> list[str]:
    """The footnote to marked labels, if there are any."""
    far = frame[frame["far_off_budget"]]
    said = [f"{row['label']} {row['tokens_mean']:.1f} ({in_words(row['off_budget'])})" for _, row in far.iterrows()]
    return [f"{MARK}: more than {100 * FAR:.0f} % off the budget on average: {', '.join(said)}"] if said else []


def _retained(row: Any, *, unknown: bool) -> str:
    """The retained share with its interval; a dash if a share of the unreduced score means nothing."""
    text = ranged(ends(row, "retained"), 100)
    return "–" if unknown and row["method"] != "none" and "retained" in row else text


def _chance(comparison: Comparison) -> list[str]:
    return [] if pd.isna(comparison.chance) else [f"chance {100 * comparison.chance:.1f} %: what guessing scores"]


def _answers(comparison: Comparison) -> View:
    measure, unknown = comparison.measure, no_share(comparison)
    columns: list[Column] = [
        ("method", marked),
        ("tokens", lambda row: number(row["tokens_mean"])),
        (f"{_unit(comparison)} [95 %]", lambda row: ranged(ends(row, "score"), measure.scale, measure.digits)),
        ("Δ vs none [95 %]", lambda row: _difference(row, "delta_none", comparison)),
        ("retained % [95 %]", lambda row: _retained(row, unknown=unknown)),
        (
            "broken / fixed",
            lambda row: "" if pd.isna(row.get("flips_p")) else f"{row['broken']:.0f} / {row['fixed']:.0f}",
        ),
        ("p", lambda row: p_text(row.get("flips_p_holm", float("nan")))),
        ("MDE", lambda row: number(row.get("mde", float("nan")), measure.scale, measure.digits)),
    ]
    notes = [
        f"[95 %]: from 10,000 resamples of {comparison.visual}s with all their questions, the same for every row; *: significant "
        "after Holm's correction over the rows of a budget",
    ]
    if "delta_none" in comparison.frame:
        notes += [
            "broken / fixed: questions correct without reduction and wrong with it / the reverse; p: McNemar's exact test, "
            "after Holm",
            "MDE: minimum detectable effect, the smallest true difference from none that these questions detect with 80 % power, "
            "before correction",
        ]
    if comparison.frame["best"].any():
        notes.append("bold: better than every other row of its budget, all differences significant after Holm")
    return _view(comparison, "", columns, [*notes, *_chance(comparison), *cautions(comparison)])


def _tokens(comparison: Comparison) -> View:
    measures = comparison.frame["measures"].dropna()

    def kept(row: Any) -> str:
        return f"{row['tokens_mean']:.1f} ± {row['tokens_std']:.1f}"

    columns: list[Column] = [
        ("method", marked),
        ("budget", _budget),
        ("tokens kept", kept),
        ("compression", lambda row: f"{number(row['compression'], 100)} %"),
        ("evidence recall %", lambda row: ranged(ends(row, "evidence_recall"), 100)),
        ("evidence recall, any part %", lambda row: ranged(ends(row, "evidence_recall_any"), 100)),
        ("prefill TFLOP", lambda row: number(row["flops_prefill"], 1e-12, 4)),
        ("saved", lambda row: f"{text} %" if (text := number(row.get("saved", float("nan")), 100)) else ""),
        ("s/sample", lambda row: number(row["seconds"], 1, 3)),
        ("failed", lambda row: f"{row['failures']}" if row["failures"] else ""),
        ("unparseable", lambda row: f"{row['unparseable']}" if row["unparseable"] else ""),
        *((f"{name} an image", _measure(name)) for name in dict.fromkeys(name for found in measures for name in found)),
    ]
    notes = [
        "tokens kept: visual tokens, mean ± standard deviation over samples, averaged over LLM layers",
        "FLOPs: 2 per multiply-add, from the vision tower to the first token",
    ]
    if (comparison.frame[["failures", "unparseable"]] > 0).any(axis=None):
        notes.append("failed answers count as wrong; unparseable ones (none that the question allows) as the task scores them")
    return _view(comparison, "tokens and costs", columns, notes)


def _measure(name: str) -> Callable[[Any], str]:
    """A figure of a method's own, mean over images."""
    return lambda row: f"{(row['measures'] or {})[name]['mean']:,.4g}" if name in (row["measures"] or {}) else ""


def _budget(row: Any) -> str:
    """The budget of a row; a share of images of many sizes with their mean number of tokens: 0.222 of 1,296."""
    if row["method"] == "none":
        return ""
    if pd.isna(row["budget"]):
        return "adaptive"
    share = row["budget"] < 1 and not pd.isna(row.get("own_tokens", float("nan")))
    if row.get("per"):
        return f"{row['budget']:g}/{row['per']}"
    return f"{row['budget']:g} of {row['own_tokens']:,.0f}" if share else f"{row['budget']:g}"


def _controls(comparison: Comparison) -> View | None:
    present = [name for name in comparison.controls if f"delta_{name}" in comparison.frame]
    if not present:
        return None

    def against(name: str) -> Callable[[Any], str]:
        return lambda row: _difference(row, f"delta_{name}", comparison)

    columns: list[Column] = [("method", marked), *((f"Δ vs {name} [95 %]", against(name)) for name in present)]
    compared = comparison.frame[[f"delta_{name}" for name in present]].notna().any(axis=1)
    chosen = replace(comparison, frame=comparison.frame[compared].reset_index(drop=True))
    return _view(chosen, f"{_unit(comparison)} less that of controls at the same budget", columns)


def _skills(comparison: Comparison) -> View | None:
    hard = "hard" in comparison.frame
    if not comparison.skills and not hard:
        return None

    def skill(name: str) -> Callable[[Any], str]:
        return lambda row: number(row[f"skill_{name}"], 100)

    columns: list[Column] = [("method", marked)]
    if hard:
        columns += [
            ("hard [95 %]", lambda row: ranged(ends(row, "hard"), 100)),
            ("of", lambda row: f"{row['hard_n']}" if row["hard_n"] else ""),
        ]
    columns += [(f"{name} ({count})", skill(name)) for name, count in comparison.skills.items()]
    notes = ["hard: of the questions that none answers and downsample at the same budget does not"] if hard else []
    return _view(comparison, "accuracy % by skill (questions)", columns, notes)


def _turns(comparison: Comparison) -> View | None:
    """Accuracy of conversations by turn."""
    if "turn_1" not in comparison.frame:
        return None
    columns = accuracy_columns(comparison.frame, lambda row, name: _difference(row, name, comparison))
    notes = ["later: turns after the first; every turn tests the same skills equally often"]
    if "delta_each" in comparison.frame:
        notes.append("Δ later vs each: from the same method choosing its tokens anew for every turn; *: significant after Holm")
    return _view(comparison, "accuracy % by turn", [("method", marked), *columns], notes)


def _costs(comparison: Comparison) -> View | None:
    """Costs of conversations by turn."""
    if "flops_turn_1" not in comparison.frame:
        return None
    columns = cost_columns(comparison.frame)
    notes = ["KV: keys and values at the end of a turn; written: over all turns"]
    return _view(comparison, "costs by turn", [("method", marked), *columns], notes)


def _stages(comparison: Comparison) -> View | None:
    """Tokens after each stage of a method, and the remaining irrelevant and repeated tokens."""
    stages = list(dict.fromkeys(name for found in comparison.frame["stages"] for name in found))
    if not stages:
        return None

    def left(stage: str) -> Callable[[Any], str]:
        return lambda row: number(row["stages"].get(stage, {}).get("mean", float("nan")))

    columns: list[Column] = [("method", marked)]
    columns += [(stage if "cluster" in stage else f"after {stage}", left(stage)) for stage in stages]
    shares = (("evidence recall", "evidence_recall"), ("irrelevant", "irrelevant"), ("repeated", "repeated"))
    columns += [(f"{title} %", _share(key)) for title, key in shares]
    return _view(comparison, "external and internal redundancy", columns)


def _share(key: str) -> Callable[[Any], str]:
    return lambda row: number(row.get(key, float("nan")), 100, 0)


def _noted(view: View, comparison: Comparison) -> View:
    """The last view, with the footnotes that hold for all views."""
    frame = comparison.frame
    # The footnote of a method is the same at every budget.
    own = dict.fromkeys(f"{row['method']}: {row['note']}" for _, row in frame.iterrows() if row["note"])
    found = [f"{row['label']}: calibrated on {row['found_on']}" for _, row in frame.iterrows() if row["found_on"]]
    notes = (*view.notes, *comparison.notes, *own, *_together(found))
    return View(view.title, view.columns, view.rows, view.breaks, notes)


def _together(notes: Sequence[str]) -> list[str]:
    """Join footnotes: ``a: said`` and ``b: said`` become ``a, b: said``."""
    named: dict[str, list[str]] = {}
    for note in notes:
        name, _, said = note.partition(": ")
        named.setdefault(said, []).append(name)
    return [f"{', '.join(names)}: {said}" for said, names in named.items()]
