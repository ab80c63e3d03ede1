"""Writes the tables of docs/turns.md from the committed runs of conversations.

    python scripts/write_turns.py

A table is between the lines `<!-- turns HISTORY VIEW -->` and `<!-- end -->`: the view of the runs with `dataset.history=HISTORY`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

from parbench.results import load
from parbench.results.select import choose
from parbench.tables.comparing import COLUMNS, Comparison, compare
from parbench.tables.rendering import markdown
from parbench.tables.views import views

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "turns.md"
RUNS = _ROOT / "results" / "reference" / "turns"
_PLACE = re.compile(r"(<!-- turns (\w+) (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def _compared(history: str) -> Comparison:
    results = load(RUNS, columns=COLUMNS)
    runs = choose(results.runs, {"dataset.history": history})
    return compare(replace(results, runs=runs))


def _filled(place: re.Match[str]) -> str:
    begin, history, view, end = place.groups()
    return f"{begin}\n{markdown(views(_compared(history), [view]))}\n{end}"


def with_tables(text: str) -> str:
    """The text of the page with its tables as the committed runs give them."""
    return _PLACE.sub(_filled, text)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
