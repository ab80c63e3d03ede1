"""Leaderboards: the runs of each model and data set, ranked at each budget by retained accuracy."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError
from parbench.figures.sweep import Sweep, sweep_of
from parbench.report.rows import number
from parbench.results.comparable import differing, surroundings
from parbench.results.loading import Results
from parbench.statistics.bootstrap import Resampled, resample
from parbench.statistics.ranking import better, ranks

_log = logging.getLogger(__name__)

# Fields that are in every board's title.
_IN_TITLE = ("model", "dataset", "dataset.split")


def sweeps_of(results: Results, metric: str | None = None) -> list[Sweep]:
    """Group runs into comparable sweeps. Groups that cannot be shown on a board are skipped with a warning.

    Args:
        results: The runs.
        metric: A metric of the table; None for the one in which each data set is reported.

    Raises:
        ParbenchError: No group can be shown: all are unreduced, have no scores, or lack the metric.
    """
    alike: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, identity in enumerate(results.runs["identity"]):
        alike.setdefault(tuple(sorted(surroundings(identity).items())), []).append(place)
    found, why = [], []
    for places in alike.values():
        runs = results.runs.iloc[places]
        try:
            if (runs["method"] == "none").all():
                raise ParbenchError(
                    f"the runs of {runs['model'].iloc[0]} on {runs['dataset'].iloc[0]} are all unreduced (none): a leaderboard "
                    "needs methods"
                )
            found.append(sweep_of(replace(results, runs=runs), metric))
        except ParbenchError as error:
            why.append(str(error))
    if not found:
        raise ParbenchError(why[0])
    for said in why:
        _log.warning(f"skipped: {said}")
    return found


def boards(sweeps: Sequence[Sweep], folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The boards: one per sweep, preceded by the mean over sweeps if there are several.

    Args:
        sweeps: Sweeps, each of one model on one data set.
        folders: The folders from which the runs were read; each row names the folder of its run.

    Returns:
        For each board ``title``, ``said``, ``visuals`` (what is resampled), ``measure``, ``none`` (the unreduced row) and
        ``groups`` (the ranked rows of each budget), as JSON values.
    """
    found = [_board(sweep, title, folders) for sweep, title in zip(sweeps, _titles(sweeps), strict=True)]
    mean = _mean(sweeps) if len(sweeps) > 1 else None
    return found if mean is None else [mean, *found]


def _titles(sweeps: Sequence[Sweep]) -> list[str]:
    """Titles: model and data set, and further fields that differ between sweeps of the same model and data set."""
    identities = [sweep.runs["identity"].iloc[0] for sweep in sweeps]
    titles = [f"{sweep.comparison.model} on {sweep.comparison.dataset}" for sweep in sweeps]
    named = []
    for title, identity in zip(titles, identities, strict=True):
        others = [other for said, other in zip(titles, identities, strict=True) if said == title]
        told = [key for key in differing(others) if key not in _IN_TITLE][:3]
        values = surroundings(identity)
        named.append(", ".join([title, *(f"{key}={values.get(key, 'null')[:12]}" for key in told)]))
    return named


def _board(sweep: Sweep, title: str, folders: Sequence[Path]) -> dict[str, Any]:
    frame = sweep.comparison.frame.assign(series=sweep.points["series"], folder=_sources(sweep.runs["folder"], folders))
    measured = resample([sweep.measure.sums(sweep.answers)])[0]
    scale, of = sweep.measure.scale, sweep.comparison
    none = frame[frame["method"] == "none"].head(1)
    groups = []
    for budget in _budgets(frame):
        places = _at(frame, budget)
        groups.append({"budget": number(budget), "rows": _ranked(frame, places, _some(measured, places), scale)})
    return {
        "title": title,
        "said": f"{of.questions:,} questions about {of.images:,} {of.visual}s.",
        "visuals": f"{of.visual}s",
        "measure": {"title": of.measure.title, "percent": scale == 100, "digits": of.measure.digits},
        "none": None if none.empty else _row(none.iloc[0], scale),
        "groups": groups,
    }


def _budgets(frame: pd.DataFrame) -> list[float]:
    """The budgets, largest first, followed by NaN if there are runs with a method's own rule."""
    asked = sorted(frame["budget"].dropna().unique(), reverse=True)
    own = (frame["budget"].isna() & (frame["method"] != "none")).any()
    return [*asked, *([float("nan")] if own else [])]


def _at(frame: pd.DataFrame, budget: float) -> list[int]:
    reduced = frame["method"] != "none"
    same = frame["budget"].isna() if np.isnan(budget) else frame["budget"] == budget
    return np.flatnonzero(reduced & same).tolist()


def _some(measured: Resampled, places: Sequence[int]) -> Resampled:
    return Resampled(measured.point[list(places)], measured.draws[list(places)], measured.freedom[list(places)])


def _ranked(frame: pd.DataFrame, places: Sequence[int], measured: Resampled, scale: float) -> list[dict[str, Any]]:
    """The rows of a budget, best first, each with its rank and its ties."""
    rows = [_row(frame.iloc[place], scale) for place in places]
    return _in_order(rows, measured)


def _in_order(rows: list[dict[str, Any]], measured: Resampled) -> list[dict[str, Any]]:
    beats = better(measured)
    for place, rank in enumerate(ranks(beats)):
        rows[place]["rank"] = int(rank)
        rows[place]["ties"] = [
            rows[other]["name"] for other in range(len(rows)) if other != place and not (beats[place, other] or beats[other, place])
        ]
    return [rows[place] for place in np.argsort(-measured.point, kind="stable")]


def _row(run: pd.Series, scale: float) -> dict[str, Any]:
    found = {"name": run["series"], "method": run["method"], "folder": run["folder"]}
    for key, name, factor in (
        ("value", "score", scale),
        ("retained", "retained", 100),
        ("tokens", "tokens_mean", 1),
        ("saved", "saved", 100),
    ):
        for end in ("", "_low", "_high"):
            if f"{name}{end}" in run:
                found[f"{key}{end}"] = number(factor * run[f"{name}{end}"])
    return found


def called(folders: Sequence[Path]) -> list[str]:
    """Names of folders for a page: the parts of their paths that differ, so that no local path is published."""
    whole = [path.resolve() for path in folders]
    if len(set(whole)) == 1:
        return [path.name for path in whole]
    common = Path(os.path.commonpath(whole))
    return [path.relative_to(common).as_posix() if path != common else path.name for path in whole]


def _sources(runs: pd.Series, folders: Sequence[Path]) -> list[str]:
    """For each run, the name of the folder from which it was read."""
    named = sorted(zip(folders, called(folders), strict=True), key=lambda found: -len(found[0].parts))
    return [next((name for path, name in named if path in (Path(run), *Path(run).parents)), "") for run in runs]


def _mean(sweeps: Sequence[Sweep]) -> dict[str, Any] | None:
    """A board with the mean retained accuracy of the methods that all sweeps have; None if there are none.

    Images of different data sets are resampled independently.
    """
    if any(sweep.none is None for sweep in sweeps):
        return None
    retained = [_retained(sweep, seed) for sweep, seed in zip(sweeps, _seeds(sweeps), strict=True)]
    shared = [label for label in retained[0][0] if all(label in mine for mine, _ in retained)]
    if not shared:
        return None
    draws = np.mean([kept.draws[[mine[label] for label in shared]] for mine, kept in retained], axis=0)
    point = np.mean([kept.point[[mine[label] for label in shared]] for mine, kept in retained], axis=0)
    freedom = np.min([kept.freedom[[mine[label] for label in shared]] for mine, kept in retained], axis=0)
    whole = Resampled(point, draws, freedom)
    frame = sweeps[0].points.set_index("label").loc[shared].reset_index()
    groups = []
    for budget in _budgets(frame):
        places = _at(frame, budget)
        rows = []
        for place in places:
            low, high = whole.of(place).interval()
            ends = {"retained": point[place], "retained_low": low, "retained_high": high}
            scaled = {key: number(100 * value) for key, value in ends.items()}
            rows.append({"name": frame["series"][place], "method": frame["method"][place], "folder": "", **scaled})
        groups.append({"budget": number(budget), "rows": _in_order(rows, _some(whole, places))})
    return {
        "title": f"mean over {len(sweeps)} settings",
        "said": f"Methods that all {len(sweeps)} have, with equal weight for each setting.",
        "visuals": None,
        "measure": None,
        "none": None,
        "groups": groups,
    }


def _retained(sweep: Sweep, seed: int) -> tuple[dict[str, int], Resampled]:
    """The indices of runs by label, and their accuracy relative to none, with resamples."""
    measured = resample([sweep.measure.sums(sweep.answers)], seed=seed)[0]
    none = int(np.flatnonzero(sweep.points["method"] == "none")[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        point, draws = measured.point / measured.point[none], measured.draws / measured.draws[none]
    places = {label: place for place, label in enumerate(sweep.points["label"])}
    return places, Resampled(point, draws, np.minimum(measured.freedom, measured.freedom[none]))


def _seeds(sweeps: Sequence[Sweep]) -> list[int]:
    """A seed for each set of images. Resamples depend only on the number of images and the seed, so sets need different seeds."""
    seen: dict[tuple[str, ...], int] = {}
    return [seen.setdefault((sweep.comparison.dataset, *sweep.answers.images), len(seen)) for sweep in sweeps]
