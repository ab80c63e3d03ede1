"""Rows that a benchmark scores together: rotations of a question's options, or the two questions about an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from parbench.errors import ParbenchError

# MMBench (arXiv 2307.06281): a rotation's index is the index of its question plus a multiple of this.
STEP = 1_000_000


class CircularGroups:
    """Rows of a data set that is scored by CircularEval: a question is right only if each of its rotations is.

    Args:
        numbers: The index of each row; rotations of one question have the same index modulo ``STEP``.
        column: The column that holds them, for error messages.
        name: The data set's name, for error messages.

    Attributes:
        keys: For each row the index of its question.

    Raises:
        ParbenchError: An index occurs twice, or a rotation's question is missing.
    """

    def __init__(self, numbers: Sequence[int], column: str, name: str) -> None:
        twice = next((number for number, times in Counter(numbers).items() if times > 1), None)
        if twice is not None:
            raise ParbenchError(f"data set {name} has {column} {twice} twice: each rotation of a question has its own")
        there = set(numbers)
        lone = next((number for number in numbers if number % STEP not in there), None)
        if lone is not None:
            raise ParbenchError(
                f"data set {name} has {column} {lone}, a rotation of question {lone % STEP}, which is not there: keep all rows of "
                "a question"
            )
        self.keys = [number % STEP for number in numbers]


def rows_of_first(keys: Sequence[Any], limit: int) -> list[int]:
    """The rows, in order, that have one of the first ``limit`` distinct keys."""
    chosen = set(list(dict.fromkeys(keys))[:limit])
    return [place for place, key in enumerate(keys) if key in chosen]


def check_pairs(keys: Sequence[Any], column: str, name: str) -> None:
    """Check that the rows come in pairs, as MME's do.

    Raises:
        ParbenchError: A key occurs once, or more than twice.
    """
    wrong = next(((key, times) for key, times in Counter(keys).items() if times != 2), None)
    if wrong:
        raise ParbenchError(
            f"data set {name} scores two questions about an image together, and {column} {wrong[0]} has {wrong[1]}: keep both rows"
        )


def with_whole_numbers(rows: Any, column: str, name: str) -> Any:
    """Rows (a ``datasets.Dataset``) with a column cast to int64; one stored copy of MMBench has its index as text.

    Raises:
        ParbenchError: A value is not an integer >= 0.
    """
    from datasets import Value

    numbers = [_whole(value, column, place, name) for place, value in enumerate(rows[column])]
    if rows.features[column] == Value("int64"):
        return rows
    order = rows.column_names
    return rows.remove_columns(column).add_column(column, numbers).select_columns(order)


def _whole(value: Any, column: str, place: int, name: str) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or (isinstance(value, float) and number != value):
        raise ParbenchError(f"row {place} of data set {name} has {column} {value!r}, which is not a whole number from 0 on")
    return number
