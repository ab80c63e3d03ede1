"""Writes the table of track B in docs/learned.md from the committed runs.

    python scripts/write_adapted.py

The table is between the lines `<!-- adapted METHOD -->` and `<!-- end -->`: the learned method on its own adapter beside every
other row on an adapted LLM, and the same methods on the shipped LLM. A difference is that of the learned method from the row,
paired by question.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from page_text import estimated
from page_text import table as as_table
from parbench.results import load
from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import Resampled, resample
from parbench.statistics.measures import accuracy

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "learned.md"
_REFERENCE = _ROOT / "results" / "reference"
ADAPTED = _REFERENCE / "adapted"
# Runs on the shipped LLM, the second with budgets that the first lacks.
_SHIPPED = (_REFERENCE / "scenes", _REFERENCE / "learned")
BUDGETS = (64, 32, 16)
_PLACE = re.compile(r"(<!-- adapted (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def rows(method: str) -> tuple[pd.DataFrame, Answers]:
    """The runs of the table, with ``trained`` (with what the LLM was adapted; "" for the shipped one), and their answers.

    Args:
        method: The learned method.
    """
    found = [load(folder, columns=["image_id", "score"]) for folder in (ADAPTED, *_SHIPPED)]
    runs = pd.concat([one.runs for one in found])
    runs["trained"] = runs["identity"].map(lambda identity: (identity.get("adapter") or {}).get("method", ""))
    adapted = runs[runs["trained"] != ""]
    wanted = runs["method"].isin(set(adapted["method"])) & (runs["budget"].isin(BUDGETS) | (runs["method"] == "none"))
    plain = runs["settings"].map(lambda settings: not settings.get("untrained", False))
    runs = runs[wanted & plain].drop_duplicates("run_id").set_index("run_id", drop=False)
    samples = pd.concat([one.samples for one in found]).drop_duplicates(["run_id", "id"])
    if not len(adapted[(adapted["trained"] == method) & (adapted["method"] == method)]):
        raise SystemExit(f"error: {ADAPTED} has no run of {method} on its own adapter")
    return runs, align(samples, list(runs.index))


def table(method: str) -> str:
    """The table as Markdown."""
    runs, answers = rows(method)
    [found] = resample([accuracy(answers)])
    place = {run: number for number, run in enumerate(runs.index)}
    kinds = runs.groupby(["trained", "method"], sort=False)
    by_accuracy = sorted(kinds, key=lambda kind: (kind[0][1] == "none", -kind[1]["accuracy"].max()))
    lines: list[list[str]] = []
    mine = _by_budget(runs[(runs["trained"] == method) & (runs["method"] == method)])
    for (trained, name), group in by_accuracy:
        here = _by_budget(group)
        if name == "none":
            cells = [_percent(group["accuracy"].iloc[0]), "", "", "", ""]
        else:
            cells = [_percent(group["accuracy"].loc[here[budget]]) if budget in here else "" for budget in BUDGETS]
            cells += [_against(found, place, mine, here, budget) if here != mine else "" for budget in BUDGETS[:2]]
        own = f"`{trained}`" if trained else "nothing (as shipped)"
        lines.append([own, "all 576 tokens" if name == "none" else f"`{name}`", *cells])
    differences = [f"`{method}` minus it, at {BUDGETS[0]}", f"at {BUDGETS[1]}"]
    header = ["LLM adapted with", "method", *map(str, BUDGETS), *differences]
    return as_table(header, lines, text=2)


def _by_budget(runs: pd.DataFrame) -> dict[float, str]:
    return dict(zip(runs["budget"], runs["run_id"], strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _against(found: Resampled, place: dict[str, int], mine: dict[float, str], here: dict[float, str], budget: int) -> str:
    if budget not in here:
        return ""
    return estimated(found.against(place[mine[budget]], place[here[budget]]), 100, signed=True)


def with_table(text: str) -> str:
    """The text of the page with its table as the committed runs give it."""
    return _PLACE.sub(lambda at: f"{at[1]}\n{table(at[2])}\n\n{at[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
