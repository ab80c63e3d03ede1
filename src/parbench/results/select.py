"""Chooses runs by their identity: ``dataset=scenes limit=300 method=par,fastv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.errors import ParbenchError, unknown
from parbench.results.comparable import flatten, text
from parbench.results.controls import compared_with

# Hashes, which the beginning of is enough for.
_HASHES = ("run_id", "weights", "clip", "code", "dataset.data")


def choose(runs: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The runs with these values, several for one field with commas between.

    ``none`` and the controls stay whatever methods are chosen, and ``none`` whatever budget, since a table says nothing without.

    Args:
        runs: ``load(...).runs``.
        where: Values by dotted field of the identity, ``run_id``, or ``budget``.

    Raises:
        ParbenchError: There is no such field, or no run with such a value; tells those there are.
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
    """One of several values that no run has was meant to be another."""
    values = [fields.get(field) for fields in flat]
    if any(text(value) == wanted.strip("[]") for value in values):
        return
    for option in wanted.strip("[]").split(","):
        if not any(_matches(field, value, option) for value in values):
            raise unknown(f"{field} of these runs", option, {_named(field, value) for value in values})


def _matches(field: str, value: Any, wanted: str) -> bool:
    said = text(value)
    # A list is a value of its own, commas and all.
    options = [wanted.strip("[]"), *wanted.strip("[]").split(",")]
    return any(said == option or (field in _HASHES and bool(option) and said.startswith(option)) for option in options)


def _named(field: str, value: Any) -> str:
    return text(value)[:12] if field in _HASHES else text(value)


def _always(field: str, runs: pd.DataFrame) -> pd.Series:
    methods = runs["method"]
    if field == "method" or field.startswith("method."):
        return methods.isin(("none", *compared_with(runs)))
    return (methods == "none") if field == "budget" else methods.isna()
