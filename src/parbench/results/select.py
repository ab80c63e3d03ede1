"""Selects runs by fields of their identity: ``dataset=scenes limit=300 method=par,fastv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.errors import ParbenchError, unknown
from parbench.results.comparable import flatten, text
from parbench.results.controls import compared_with

# Hashes, for which a prefix is enough.
_HASHES = ("run_id", "weights", "clip", "code", "dataset.data")


def choose(runs: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The runs with these values; several values of a field are separated by commas.

    ``none`` and the controls are kept whatever methods are selected, and ``none`` whatever budget, because a table needs them.

    Args:
        runs: ``load(...).runs``.
        where: Values by dotted field of the identity, ``run_id``, or ``budget``.

    Raises:
        ParbenchError: There is no such field, or no run with such a value; the message lists those there are.
    """
    flat = [
        {**flatten(run["identity"]), "run_id": run["run_id"], "budget": run["settings"].get("budget")} for _, run in runs.iterrows()
    ]
    left = pd.Series(True, index=runs.index)
    for field, wanted in where.items():
        known = {key for fields in flat for key in fields}
        if field not in known:
            raise unknown("field of a run", field, known)
        found = pd.Series([_matches(field, fields.get(field), wanted) for fields in flat], index=runs.index)
        if not (found & left).any():
            there = sorted({_named(field, fields.get(field)) for fields, stays in zip(flat, left, strict=True) if stays})
            raise ParbenchError(f"no run has {field}={wanted}: there are {', '.join(there[:8])}")
        _refuse_unknown(field, wanted, flat)
        left &= found | _always(field, runs)
    return runs[left]


def _refuse_unknown(field: str, wanted: str, flat: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a value that no run has, even if other values of the list match."""
    values = [fields.get(field) for fields in flat]
    if any(text(value) == wanted.strip("[]") for value in values):
        return
    for option in wanted.strip("[]").split(","):
        if not any(_matches(field, value, option) for value in values):
            raise unknown(f"{field} of these runs", option, {_named(field, value) for value in values})


def _matches(field: str, value: Any, wanted: str) -> bool:
    said = text(value)
    # A list is a single value, including its commas.
    options = [wanted.strip("[]"), *wanted.strip("[]").split(",")]
    return any(said == option or (field in _HASHES and bool(option) and said.startswith(option)) for option in options)


def _named(field: str, value: Any) -> str:
    return text(value)[:12] if field in _HASHES else text(value)


def _always(field: str, runs: pd.DataFrame) -> pd.Series:
    methods = runs["method"]
    if field == "method" or field.startswith("method."):
        return methods.isin(("none", *compared_with(runs)))
    return (methods == "none") if field == "budget" else methods.isna()
