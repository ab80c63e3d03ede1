"""Writes the tables of fields in docs/results.md from the types in parbench.results.record.

python scripts/write_results.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any

from parbench.results.record import METRICS_FIELDS, SAMPLE_FIELDS

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
_TABLES = {"samples.jsonl": SAMPLE_FIELDS, "metrics.json": METRICS_FIELDS}


def with_tables(text: str) -> str:
    """The text of the page with up-to-date tables."""
    for file, known in _TABLES.items():
        begin, end = f"<!-- fields of {file} -->", "<!-- end -->"
        text = re.sub(f"{begin}.*?{end}", lambda _, known=known, marks=(begin, end): _table(known, *marks), text, flags=re.S)
    return text


def _table(known: Mapping[str, Field[Any]], begin: str, end: str) -> str:
    rows = [_row(one) for one in known.values()]
    return "\n".join([begin, "| field | type | missing in old files | |", "|---|---|---|---|", *rows, end])


def _row(one: Field[Any]) -> str:
    about = one.metadata
    marks = ["**Timing.**"] if about["timing"] else []
    marks += ["Omitted if it is null."] if about["left_out"] else []
    said = " ".join([about["said"], *marks]).replace("|", "\\|")
    return f"| `{one.name}` | {about['kind']} | {_default(one)} | {said} |"


def _default(one: Field[Any]) -> str:
    if one.default is MISSING and one.default_factory is MISSING:
        return "refused"
    value = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
    return {None: "null", "": "empty"}.get(value, str(value)) if not isinstance(value, (dict, list)) else "empty"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
