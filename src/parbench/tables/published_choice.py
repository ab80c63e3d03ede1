"""Selects published numbers by their fields: ``model=llava-1.5-7b benchmark=pope method=fastv,par tokens=64,25%``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from parbench.config import names
from parbench.errors import ParbenchError, unknown
from parbench.tables.published import SAME

FIELDS = ("model", "benchmark", "method", "tokens", "metric", "subset", "setting", "resolution", "frames", "trained", "source")
# A paper is found by any of its names.
_SOURCES = ["source", "paper", "name"]
# Shares are printed with three digits.
_NEAR = 0.0006


def choose(frame: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The numbers with these values; several values of a field are separated by commas.

    The unreduced numbers of their tables are kept whatever methods and tokens are selected.

    Args:
        frame: The result of :func:`parbench.tables.published.read`.
        where: Values by field. ``tokens`` is a number of visual tokens, or a share of all: ``64``, ``25%`` or ``0.25``. ``source``
            is a source, a paper or its short name.

    Raises:
        ParbenchError: There is no such field, or no number with such a value among those that the fields before it left.
    """
    before: list[str] = []
    for field, wanted in where.items():
        if field not in FIELDS:
            raise unknown("field of published numbers", field, FIELDS)
        among = "among the published numbers" + (f" with {' and '.join(before)}" if before else "")
        options = [option.strip() for option in wanted.strip("[]").split(",")]
        found = _with_tokens(frame, options, among) if field == "tokens" else _with_value(frame, field, options, among)
        frame = _with_unreduced(frame, found) if field in ("method", "tokens") else frame[found]
        before.append(f"{field}={wanted}")
    return frame


def tokens_of(option: str) -> tuple[float, bool]:
    """A number of tokens, and whether it is a share of all.

    Raises:
        ParbenchError: It is neither.
    """
    try:
        value = float(option.removesuffix("%"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (option.endswith("%") and value > 100):
        raise ParbenchError(f"tokens={option} is neither a number of tokens nor a share of all: 64, 25% and 0.25 are")
    if option.endswith("%"):
        return value / 100, True
    return value, 0 < value < 1


def _with_tokens(frame: pd.DataFrame, options: Sequence[str], among: str) -> pd.Series:
    found = pd.Series(False, index=frame.index)
    for option in options:
        wanted, share = tokens_of(option)
        there = 1 - frame["compression"] if share else frame["tokens"]
        these = (there - wanted).abs() < (_NEAR if share else 0.05)
        if not these.any():
            raise ParbenchError(f"no number {among} has tokens={option}: {_nearest(there, wanted, share)}")
        found |= these
    return found


def _nearest(there: pd.Series, wanted: float, shares: bool) -> str:
    """The values nearest to the wanted one, in words."""
    # As tables show them, so that each is said once.
    values = sorted({round(100 * value, 1) if shares else round(value, 1) for value in there.dropna()})
    near = sorted(sorted(values, key=lambda value: abs(value - wanted * (100 if shares else 1)))[:4])
    if not near:
        return "they state shares only, such as tokens=25%" if not shares else "they state no share"
    said = [f"{value:g}{'%' if shares else ''}" for value in near]
    return f"nearest {'is' if len(said) == 1 else 'are'} {', '.join(said)}"


def _with_value(frame: pd.DataFrame, field: str, options: Sequence[str], among: str) -> pd.Series:
    columns = frame[_SOURCES] if field == "source" else frame[[field]].astype(str)
    if field == "trained":
        columns, options = columns.apply(lambda column: column.str.lower()), [option.lower() for option in options]
    known = set(columns.to_numpy().ravel()) - {""}
    found = columns.isin(options).any(axis=1)
    # A method without published numbers may be one of the own runs.
    allowed = known | set(names("method")) if field == "method" and found.any() else known
    for option in options:
        if option not in allowed:
            raise unknown(f"{field} {among}", option, known)
    return found


def _with_unreduced(frame: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
    """The selected numbers, and the unreduced ones of their tables."""
    key = [*SAME, "source", "place"]
    tables = pd.MultiIndex.from_frame(frame[key])
    return frame[found | ((frame["method"] == "none") & tables.isin(tables[found]))]
