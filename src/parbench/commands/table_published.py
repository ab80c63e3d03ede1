"""``parbench table --published``: numbers from papers, next to own runs if there are any."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.options import default_results
from parbench.commands.table_output import write_data, write_views
from parbench.errors import ParbenchError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from parbench.results.loading import Results
    from parbench.tables.places import Place
    from parbench.tables.published import Own

_log = logging.getLogger(__name__)

_NOTE = (
    "papers count FLOPs in different ways and round differently; own runs have 95 % intervals, papers give none; "
    "definitions and caveats: results/published/README.md"
)


def published(paths: list[Path], where: Mapping[str, str], form: str, out: Path | None) -> None:
    """Print or write published numbers, next to own runs of the same models and benchmarks.

    Args:
        paths: Folders of runs; the default folder if empty.
        where: Fields and their wanted values, of published numbers and of runs.
        form: ``terminal``, ``markdown``, ``latex``, ``csv`` or ``parquet``.
        out: The file; None for standard output.

    Raises:
        ParbenchError: A filter matches nothing, or own runs of a model and benchmark differ in more than the method.
    """
    import pandas as pd

    from parbench.tables.published import beside, read, views
    from parbench.tables.published_choice import choose

    numbers, runs = _split(where)
    frame = choose(read(), numbers)
    parts, results = [], _own_runs(paths, runs)
    for (model, benchmark), part in frame.groupby(["model", "benchmark"], sort=True):
        owns = [own for own in _owns(results, str(model), str(benchmark)) if _wanted(own.place, numbers)]
        parts.append(beside(part, owns))
    whole = pd.concat(parts, ignore_index=True)
    if not (whole["source"] == "own run").any():
        _log.warning("no own run of these models and benchmarks: published numbers only")
    if form in ("csv", "parquet"):
        write_data(whole, form, out)
        return
    made = views(whole)
    made[-1] = replace(made[-1], notes=(*made[-1].notes, _NOTE))
    write_views(made, form, out)


def _split(where: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split filters into those of published numbers and those of own runs. Method and tokens apply to both."""
    from parbench.tables.places import benchmark_of
    from parbench.tables.published_choice import FIELDS

    named = {"benchmark" if key == "dataset" else key: value for key, value in where.items()}
    if (ocr := "textvqa-ocr") == named.get("benchmark"):
        named |= {"benchmark": benchmark_of(ocr), "setting": "OCR tokens"}
    numbers = {key: value for key, value in named.items() if key in FIELDS}
    return numbers, {key: value for key, value in named.items() if key not in FIELDS or key in ("method", "tokens")}


def _wanted(place: Place, numbers: Mapping[str, str]) -> bool:
    """Whether the filters of published numbers include a place of own runs."""
    chosen = {key: numbers[key].strip("[]").split(",") for key in ("subset", "setting") if key in numbers}
    return all(getattr(place, key) in options for key, options in chosen.items())


def _own_runs(paths: list[Path], where: Mapping[str, str]) -> Results | None:
    """The own runs; None if no folder was given and the default one has no runs.

    Raises:
        ParbenchError: A given folder has no runs, or none of them matches the filters.
    """
    from parbench.results import load
    from parbench.results.select import choose
    from parbench.tables.comparing import COLUMNS

    if not paths and not default_results().is_dir():
        _refuse_fields_of_runs(where)
        return None
    try:
        results = load(paths or [default_results()], columns=COLUMNS)
    except ParbenchError as error:
        if paths:
            raise
        _log.warning(f"no own runs: {error}")
        _refuse_fields_of_runs(where)
        return None
    methods, tokens = where.get("method"), where.get("tokens")
    fields = {key: value for key, value in where.items() if key not in ("method", "tokens")}
    runs = results.runs
    if methods is not None:
        # A method may have published numbers but no own runs.
        mine = [name for name in methods.strip("[]").split(",") if name in set(runs["method"])]
        fields["method"] = ",".join(mine) or "none"
        runs = runs if mine else runs[runs["method"] == "none"]
    runs = choose(runs, fields) if len(runs) else runs
    return replace(results, runs=runs if tokens is None else runs[_has_budget(runs, tokens)])


def _refuse_fields_of_runs(where: Mapping[str, str]) -> None:
    """Without own runs, refuse filters that only they have.

    Raises:
        ParbenchError: There is such a filter.
    """
    from parbench.tables.published_choice import FIELDS

    for field in where:
        if field not in FIELDS:
            raise unknown("field of published numbers (there are no own runs)", field, FIELDS)


def _has_budget(runs: pd.DataFrame, tokens: str) -> pd.Series:
    """The runs with one of these budgets, and the unreduced ones."""
    from parbench.tables.published_choice import tokens_of

    wanted = {tokens_of(option.strip())[0] for option in tokens.strip("[]").split(",")}
    return (runs["method"] == "none") | runs["settings"].map(lambda settings: settings.get("budget")).isin(wanted)


def _owns(results: Results | None, model: str, benchmark: str) -> list[Own]:
    """Own runs of a model and benchmark, grouped by split, prompt and scoring."""
    from parbench.tables.places import benchmark_of, place_of

    if results is None:
        return []
    runs = results.runs
    # Runs that only the benchmark's server can score have no accuracy.
    mine = runs[(runs["model"] == model) & (runs["dataset"].map(benchmark_of) == benchmark) & runs["accuracy"].notna()]
    places = mine["identity"].map(place_of)
    found = [_own(replace(results, runs=mine[places == place]), place) for place in dict.fromkeys(places)]
    return [own for own in found if own is not None]


def _own(mine: Results, place: Place) -> Own | None:
    from parbench.statistics.measures import MEASURES
    from parbench.tables.comparing import compare
    from parbench.tables.published import METRICS, Own

    benchmark = place.benchmark
    if benchmark == "mme" and mine.runs["limit"].notna().any():
        limits = ", ".join(f"{limit:g}" for limit in sorted(mine.runs["limit"].dropna().unique()))
        _log.warning(f"skipped: own runs of mme have limit={limits}, and its points are sums over whole categories")
        return None
    comparisons = {}
    for measure in dict.fromkeys(measure for _, measure in METRICS.values() if measure in MEASURES):
        if measure == "accuracy" or benchmark in ("pope", "mme"):
            try:
                comparisons[measure] = compare(mine, measure)
            except ParbenchError:
                # Measures that the benchmark lacks, such as the F1 of MME or the points of POPE.
                if measure == "accuracy":
                    raise
    return Own(place, comparisons)
