"""Whether the order of methods on one model holds on another, at each budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parbench.errors import ParbenchError
from parbench.results.comparable import differing, surroundings
from parbench.results.loading import Results
from parbench.statistics.agreement import Agreement, agreement
from parbench.tables.measured import Measured, measured, some

# Two methods are one pair, which is no order.
_LEAST = 3


@dataclass(frozen=True)
class Witness:
    """The orders of the methods that both models have at a budget.

    Attributes:
        budgets: The budget on the first model and on the second.
        series: The R methods, as rows of the first model are called without their budget; controls are among them.
        there: [R] what the same rows of the second are called: another name where a method needs other settings on that model.
        control: [R] bool, whether each is a control.
        scores: [2, R] the measure of each method on each model.
        found: The comparison of the two orders.
        methods: The same without controls; None for fewer than three methods.
    """

    budgets: tuple[float, float]
    series: tuple[str, ...]
    there: tuple[str, ...]
    control: np.ndarray
    scores: np.ndarray
    found: Agreement
    methods: Agreement | None


@dataclass(frozen=True)
class Witnesses:
    """Two models with the same methods.

    Attributes:
        one: The runs of the first.
        other: The runs of the second.
        names: What they are called: the model, with the field that differs where the model does not.
        paired: Whether both were asked about the same images, so that their resamples are paired.
        at: The comparison at each budget.
    """

    one: Measured
    other: Measured
    names: tuple[str, str]
    paired: bool
    at: tuple[Witness, ...]


def witnesses(
    one: Results, other: Results, budgets: Sequence[tuple[float, float]] | None = None, metric: str | None = None
) -> Witnesses:
    """Compare the orders of methods on two models.

    Args:
        one: Runs of a model, with ``measured.COLUMNS`` of their samples.
        other: Runs of another.
        budgets: Pairs of a budget on the first model and one on the second; None for all that both have.
        metric: One of ``MEASURES``; None for that in which each data set is reported.

    Raises:
        ParbenchError: A side mixes settings, both are of the same setting, or they share no budget with three methods.
    """
    names = _names(one.runs["identity"].iloc[0], other.runs["identity"].iloc[0])
    paired = _images(one) == _images(other)
    # The draws depend on the number of images and the seed.
    first, second = measured(one, metric), measured(other, metric, seed=0 if paired else 1)
    wanted = budgets if budgets is not None else [(budget, budget) for budget in first.budgets if budget in second.budgets]
    found = [_witness(first, second, pair) for pair in wanted]
    at = tuple(witness for witness in found if witness is not None)
    if not at:
        there = [
            f"{name} has {', '.join(f'{budget:g}' for budget in of.budgets)}"
            for name, of in zip(names, (first, second), strict=True)
        ]
        raise ParbenchError(
            f"there is no budget at which both models have {_LEAST} methods ({'; '.join(there)}): run the same methods on both, "
            "or name pairs of budgets"
        )
    return Witnesses(first, second, names, paired, at)


def _images(results: Results) -> set[str]:
    return set(results.samples["image_id"][results.samples["run_id"].isin(results.runs["run_id"])])


def _names(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str]:
    """The models, or the model and the first field that differs.

    Raises:
        ParbenchError: Nothing differs.
    """
    apart = differing([one, other])
    if not apart:
        raise ParbenchError(f"both sides have runs of {one['model']} in the same setting: name runs of two models")
    field = next(iter(apart))
    first, second = (f"{identity['model']} ({field}={surroundings(identity)[field][:12]})" for identity in (one, other))
    return (str(one["model"]), str(other["model"])) if one["model"] != other["model"] else (first, second)


def _witness(one: Measured, other: Measured, budgets: tuple[float, float]) -> Witness | None:
    """The comparison at a pair of budgets; None if the models share fewer than three methods there."""
    pairs = _pairs(one, one.at(budgets[0]), other, other.at(budgets[1]))
    if len(pairs) < _LEAST:
        return None
    places = [list(side) for side in zip(*pairs, strict=True)]
    series, there = (tuple(of.runs["series"].iloc[rows]) for of, rows in zip((one, other), places, strict=True))
    control = one.runs["control"].to_numpy(dtype=bool)[places[0]]

    def compared(chosen: np.ndarray) -> Agreement:
        sides = (some(of.score, np.array(rows)[chosen].tolist()) for of, rows in zip((one, other), places, strict=True))
        return agreement(*sides)

    scores = np.stack([of.score.point[rows] for of, rows in zip((one, other), places, strict=True)])
    methods = compared(~control) if (~control).sum() >= _LEAST else None
    return Witness(budgets, series, there, control, scores, compared(np.ones(len(series), dtype=bool)), methods)


def _pairs(one: Measured, first: Sequence[int], other: Measured, second: Sequence[int]) -> list[tuple[int, int]]:
    """Places of the rows that are one method: of the same name, or the only ones left of a method on either side."""
    names = {other.runs["series"].iloc[place]: place for place in second}
    found = {place: names[name] for place in first if (name := one.runs["series"].iloc[place]) in names}
    left = [place for place in second if place not in found.values()]
    for method, rows in one.runs.iloc[[place for place in first if place not in found]].groupby("method", sort=False):
        rivals = [place for place in left if other.runs["method"].iloc[place] == method]
        if len(rows) == 1 and len(rivals) == 1:
            found[int(rows.index[0])] = rivals[0]
    return [(place, found[place]) for place in first if place in found]
