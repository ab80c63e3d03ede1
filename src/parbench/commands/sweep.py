"""``parbench sweep``: methods x budgets, one after the other in one process, one table at the end."""

from __future__ import annotations

from typing import Any

import yaml

from parbench.commands.eval import _method, table
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError, unknown

DEFAULT_BUDGETS = [192, 128, 64]


def run(words: list[str]) -> None:
    """Evaluate the grid and print the table."""
    lists: dict[str, list[Any]] = {"methods": ["par", "prumerge-plus", "fastv"], "budgets": DEFAULT_BUDGETS}
    rest = []
    for word in words:
        key, _, value = word.partition("=")
        if key in lists:
            lists[key] = _list(key, value)
        else:
            rest.append(word)
    methods = names("method") if lists["methods"] == ["all"] else [str(name) for name in lists["methods"]]
    for name in methods:
        if name not in names("method"):
            raise unknown("method", name, names("method"))
    config = compose_config(rest)
    wanted = dict.fromkeys(["none", *methods, *config.controls])
    cells = []
    for name in wanted:
        method = _method(name, rest)
        # A method that reaches no budget by itself runs once, by its own rule.
        budgets = [None] if name == "none" else lists["budgets"]
        cells += [(method, budget) for budget in budgets]
        if name in methods and build_reducer(method).budget is None and name != "none":
            cells.append((method, None))
    table(cells, config)


def _list(key: str, value: str) -> list[Any]:
    found = yaml.safe_load(value if value.startswith("[") else f"[{value}]")
    if not isinstance(found, list) or not found:
        raise ParbenchError(f"{key}={value} is no list: write {key}=[a,b]")
    return found
