"""Which runs can be in one table, and in which measure."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from parbench.errors import ParbenchError
from parbench.results.comparable import differing
from parbench.statistics.answers import Answers
from parbench.statistics.measures import COGNITION, MEASURES, PERCEPTION, Measure, categories_there, measure_called, own_measure


def refuse_mixture(runs: pd.DataFrame, beside: Sequence[str] = ()) -> None:
    """Refuse runs that differ in other fields than the method and the blocks ``beside``.

    Raises:
        ParbenchError: They do. The message names fields, values and how to choose.
    """
    apart = differing(runs["identity"].tolist(), beside)
    if not apart:
        return
    said = []
    for key, values in list(apart.items())[:3]:
        counts = ", ".join(
            f"{_short(value)} in {count}" for value, count in sorted(values.items(), key=lambda item: (-item[1], item[0]))[:4]
        )
        said.append(f"{key} ({counts})")
    more = f" and {len(apart) - 3} more fields" if len(apart) > 3 else ""
    key, values = next(iter(apart.items()))
    example = _short(min(values, key=lambda value: (-values[value], value)))
    raise ParbenchError(
        f"these {len(runs)} runs cannot be in one table, since they differ in {'; '.join(said)}{more}: choose, for example with "
        f"{key}={example}"
    )


def _short(value: str) -> str:
    """Abbreviate a hash to its beginning."""
    return value[:12] if len(value) == 64 else value


def measure_for(answers: Answers, metric: str | None, declared: str) -> tuple[Measure, tuple[str, ...]]:
    """The measure, and a footnote if it is not the one in which the data set is reported.

    Args:
        answers: The answers to be measured.
        metric: One of ``MEASURES``; None for the one in which the data set is reported.
        declared: ``dataset.metric`` of the runs' identity.

    Raises:
        ParbenchError: There is no such measure.
    """
    if metric is not None:
        return measure_called(metric), ()
    own = own_measure(declared)
    try:
        own.sums(answers)
    except ParbenchError as error:
        return MEASURES["accuracy"], (f"accuracy instead of {own.title}: {error}",)
    there, every = categories_there(answers), len(PERCEPTION + COGNITION)
    if own.name == "points" and there < every:
        return own, (f"points over {there} of MME's {every} categories",)
    return own, ()
