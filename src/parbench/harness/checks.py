"""Checks of a data set that need no model."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError, unknown
from parbench.lmms_tasks.check import measured
from parbench.lmms_tasks.index import read_yaml

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def check_metric(settings: Mapping[str, Any], task: Path) -> None:
    """Check that the task computes the metrics that a data set's settings name.

    Args:
        settings: The ``conf/dataset`` mapping.
        task: The task's YAML.

    Raises:
        ParbenchError: The task lacks one of the metrics.
    """
    known = [metric["metric"] for metric in measured(read_yaml(task), task)]
    asked = settings["metric"] or []
    for name in [asked] if isinstance(asked, str) else asked:
        if known and name not in known:
            raise unknown(f"dataset.metric of {settings['name']}", str(name), known)


def check_columns(settings: Mapping[str, Any], rows: Any, source: str) -> None:
    """Check that the rows have the columns that a data set's settings name.

    Raises:
        ParbenchError: A column is missing.
    """
    have = rows.column_names
    if missing := [name for name in settings["columns"] if name not in have]:
        raise ParbenchError(
            f"data set {settings['name']} lacks the column {', '.join(missing)} in {source}: it has {', '.join(have)}"
        )
    if settings["image_key"] is not None and settings["image_key"] not in have:
        raise unknown(f"dataset.image_key of {settings['name']}", settings["image_key"], have)


def check_answers(name: str, numbers: Iterable[int], docs: Any) -> None:
    """Check that the right answer of every multiple-choice row is one of its options.

    Args:
        name: The data set.
        numbers: Indices of the rows to check.
        docs: All rows, without images.

    Raises:
        ParbenchError: A row's right answer is not among its options, so that every answer would be wrong.
    """
    for number in numbers:
        doc = docs[number]
        options = options_of(doc)
        answer = doc.get("answer")
        if options is not None and not _among(answer, options):
            raise ParbenchError(
                f"row {number} of data set {name} has the answer {answer!r}, which is none of its options ({', '.join(options)}): "
                "mend or remove that row"
            )


def options_of(doc: Mapping[str, Any]) -> list[str] | None:
    """The letters of a row's options; None if it has no options, or no answer to compare with them."""
    answer = doc.get("answer")
    if answer is None or isinstance(answer, list) or str(answer).strip() in ("", "nan", "None", "?", "hidden"):
        return None
    if {"A", "B"} <= set(doc):
        return [letter for letter in "ABCDEFGH" if _is_said(doc.get(letter))]
    if {"choice_a", "choice_b"} <= set(doc):
        return [letter.upper() for letter in "abcdefgh" if _is_said(doc.get(f"choice_{letter}"))]
    for key in ("choices", "options"):
        found = doc.get(key)
        if isinstance(found, str) and found.startswith("["):
            try:
                found = ast.literal_eval(found)
            except (ValueError, SyntaxError):
                continue
        if isinstance(found, list) and len(found) > 1:
            return [*_LETTERS[: len(found)], *map(str, found)]
    return None


def _is_said(option: Any) -> bool:
    return option is not None and str(option) not in ("", "nan", "None")


def _among(answer: Any, options: Sequence[str]) -> bool:
    """Whether an answer is an option's letter, text, or zero-based index."""
    letters = [option for option in options if len(option) == 1 and option in _LETTERS]
    text = str(answer).strip()
    if isinstance(answer, int) or text.isdigit():
        return int(text) < len(letters) or text in options
    return text.strip("().").upper() in letters or text in options
