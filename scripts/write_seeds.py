"""Writes the table of docs/seeds.md from scripts/seeds.yaml, with the rows of a table of runs.

python scripts/write_seeds.py                             # rows of results/reference/scenes.csv
python scripts/write_seeds.py results/mine.csv            # of another file of parbench table --out=FILE.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from page_text import ROOT, table
from parbench.tables.text import ends, ranged
from readme_part import filled

PAGE = ROOT / "docs" / "seeds.md"
ROWS = ROOT / "results" / "reference" / "scenes.csv"
_BEGIN, _END = "<!-- seeds: written by scripts/write_seeds.py -->", "<!-- /seeds -->"
# The budget of the rows that are shown.
_BUDGET = 64


def systems() -> list[dict[str, Any]]:
    """The systems of scripts/seeds.yaml."""
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "scripts" / "seeds.yaml").read_text(encoding="utf-8"))
    return found


def with_table(text: str, rows: Path = ROWS) -> str:
    """The text of the page with an up-to-date table.

    Args:
        text: The page.
        rows: A CSV of parbench table.
    """
    runs = pd.read_csv(rows)
    header = ["system", "arXiv", "what it is here", "method", f"accuracy % @{_BUDGET}"]
    return filled(text, _BEGIN, _END, table(header, [_row(one, runs) for one in systems()], 4))


def _row(system: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    names = system.get("methods", [])
    links = ", ".join(f"[`{name}`](methods.md#{name})" for name in names) or "–"
    scores = ", ".join(_score(runs, name) for name in names)
    number = system["arxiv"]
    said = f"*{system['kind'].capitalize()}.* {system['here']}"
    return [system["name"], f"[{number}](https://arxiv.org/abs/{number})", said, links, scores or "–"]


def _score(runs: pd.DataFrame, method: str) -> str:
    """The accuracy of a method at the budget with its interval; a dash without such a row."""
    found = runs[(runs["method"] == method) & (runs["budget"] == _BUDGET)]
    if found.empty:
        return "–"
    return ranged(ends(found.iloc[0], "score"), 100)


def main(words: Sequence[str] | None = None) -> None:
    """Update the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=Path, default=ROWS)
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), parser.parse_args(words).rows), encoding="utf-8")


if __name__ == "__main__":
    main()
