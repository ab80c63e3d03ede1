"""Computes a run's metrics from its samples."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from parbench.errors import ParbenchError
from parbench.reducers.budget import Budget, resolve
from parbench.results.official import official
from parbench.results.packed import read_text
from parbench.results.record import FLOPS_PARTS, RunMetrics, SampleRecord
from parbench.results.samples import cause


def read_metrics(path: Path, computed_by: Sequence[Mapping[str, Any]] = ()) -> RunMetrics:
    """Read a ``metrics.json``.

    Raises:
        ParbenchError: The file is damaged, or of another format.
    """
    remedy = "delete it and run again; no sample is lost"
    try:
        found = json.loads(read_text(path))
    except (ValueError, OSError) as error:
        raise ParbenchError(f"{path} is damaged ({cause(error)}): {remedy}") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{path} is not a file of parbench, which writes a JSON object there: {remedy}")
    return RunMetrics.parse(found, str(path), computed_by)


def summarise(lines: Sequence[SampleRecord], run: Mapping[str, Any]) -> RunMetrics:
    """Metrics of a run.

    Args:
        lines: Its samples.
        run: The fields of ``RunMetrics`` that samples do not contain: run_id, model, method, dataset, budget, chance, lmms_eval and
            patches (None if samples have their own, or if it is unknown; compression is then NaN); optionally ``control``,
            ``site``, ``shard``, ``note`` and ``trained``; and ``figures``, the benchmark whose official figures (:func:`official`)
            are computed.

    Returns:
        Means over the answered samples; in accuracy, failed samples count as wrong.
    """
    answered = [line for line in lines if line.error is None]
    pictured = [line for line in answered if line.images]
    kept = [line.tokens_kept / line.images for line in pictured if line.tokens_kept is not None]
    scores = unit_scores(lines)
    return RunMetrics(
        run_id=run["run_id"],
        model=run["model"],
        method=run["method"],
        control=run.get("control"),
        site=run.get("site"),
        dataset=run["dataset"],
        budget=run["budget"],
        per=run.get("per"),
        n=len(lines),
        failures=len(lines) - len(answered),
        unparseable=sum(bool(line.unparseable) for line in lines),
        accuracy=_mean([score for _, score in scores.values()]),
        chance=run["chance"],
        tokens_kept=_spread(kept),
        compression=_compression(pictured, kept, run["patches"]),
        evidence_recall=_mean([line.evidence_recall for line in answered]),
        flops={part: _mean([line.flops[part] for line in answered if line.flops]) for part in FLOPS_PARTS},
        units=len(scores),
        shard=run.get("shard"),
        patches=run["patches"],
        own_tokens=_own_tokens(pictured),
        asked=_asked(pictured, run["budget"], run.get("per")),
        skills=_by_skill(scores.values()),
        stages=_by_stage(pictured),
        irrelevant=_mean([line.irrelevant for line in answered]),
        repeated=_mean([line.repeated for line in answered]),
        seconds_per_sample=_mean([line.seconds for line in answered]),
        official=official(run.get("figures"), lines),
        lmms_eval=run["lmms_eval"],
        note=run.get("note", ""),
        measures=_measures(pictured) or None,
        trained=run.get("trained"),
        evidence_recall_any=_mean([line.evidence_recall_any for line in answered]),
    )


def _compression(lines: Sequence[SampleRecord], kept: Sequence[float], patches: int | None) -> float:
    """1 minus the share of tokens that are kept, 0..1; NaN if the number without reduction is unknown."""
    if shares := [line.tokens_kept / sum(line.own_tokens) for line in lines if line.own_tokens and line.tokens_kept is not None]:
        return 1 - fmean(shares)
    if not kept:
        return 0.0
    return 1 - fmean(kept) / patches if patches else math.nan


def _own_tokens(lines: Sequence[SampleRecord]) -> dict[str, float] | None:
    """The spread of the visual tokens of an image without reduction; None if samples do not record them."""
    found = [sum(line.own_tokens) / line.images for line in lines if line.own_tokens]
    return _spread(found) if found else None


def _asked(lines: Sequence[SampleRecord], budget: Budget, per: str | None) -> float | None:
    """The mean tokens of an image that a budget asks for; None without a budget, or if samples do not record their own tokens."""
    if budget is None:
        return None

    def of(line: SampleRecord) -> list[int]:
        own = line.own_tokens or ()
        times = (line.frames or [1] * len(own)) if per else [1] * len(own)
        return [resolve(budget * many, total, "", varies=True) or 0 for total, many in zip(own, times, strict=True)]

    return _mean(fmean(of(line)) for line in lines if line.own_tokens)


def _by_skill(scores: Iterable[tuple[str | None, float]]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for skill, score in scores:
        if skill:
            found[skill].append(score)
    return {skill: fmean(mine) for skill, mine in sorted(found.items())}


def _by_stage(lines: Iterable[SampleRecord]) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        for name, count in line.stages.items():
            found[name].append(count / line.images)
    return {name: _spread(counts) for name, counts in found.items()}


def _measures(lines: Iterable[SampleRecord]) -> dict[str, dict[str, float]]:
    found: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        for name, value in (line.measures or {}).items():
            found[name].append(value / line.images)
    return {name: _spread(values) for name, values in found.items()}


def unit_scores(lines: Sequence[SampleRecord]) -> dict[Any, tuple[str | None, float]]:
    """Skill and score of each unit: one sample, or several that are right only together.

    Samples that a server scores are left out.
    """
    found: dict[Any, tuple[str | None, float]] = {}
    for number, line in enumerate(lines):
        if line.score is None:
            continue
        name = line.unit or number
        skill, score = found.get(name, (line.skill, line.score))
        found[name] = skill, min(score, line.score)
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "std": 0.0, "min": 0.0, "max": 0.0}
    return {"mean": fmean(values), "std": pstdev(values), "min": min(values), "max": max(values)}


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
