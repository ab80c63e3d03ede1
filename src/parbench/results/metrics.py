"""A run's samples to its metrics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

from parbench.results.official import official

FLOPS_PARTS = ("vision", "projector", "reducer", "llm_prefill", "decode", "total")


def summarise(lines: Sequence[Mapping[str, Any]], run: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a run.

    Args:
        lines: The lines of ``samples.jsonl``.
        run: run_id, model, method, dataset, budget, chance, patches (visual tokens an image has without reduction), and
            ``lmms_eval``, the task's own metrics; ``note``, if a reader has to know something; ``shard``, if it is one;
            ``figures``, which of ``official`` its data set is reported in; ``control``, whether the method is one.

    Returns:
        The fixed keys of ``metrics.json`` (accuracy in 0..1, failed samples in the denominator; FLOPs per sample, 2 per
        multiply-add), then ``units`` (what accuracy is the share of, where several samples count as one), ``shard``,
        ``patches``, ``skills``, ``stages``, ``irrelevant``, ``repeated``, ``seconds_per_sample``, ``official`` (see
        :func:`official`), ``lmms_eval`` and ``note``.
    """
    answered = [line for line in lines if line["error"] is None]
    pictured = [line for line in answered if line["images"]]
    kept = [line["tokens_kept"] / line["images"] for line in pictured]
    scores = unit_scores(lines)
    by_skill: dict[str, list[float]] = defaultdict(list)
    for skill, score in scores.values():
        if skill:
            by_skill[skill].append(score)
    mean_kept = fmean(kept) if kept else 0.0
    stages: dict[str, list[float]] = defaultdict(list)
    for line in pictured:
        for name, count in line["stages"].items():
            stages[name].append(count / line["images"])
    return {
        "run_id": run["run_id"],
        "model": run["model"],
        "method": run["method"],
        "control": run.get("control"),
        "dataset": run["dataset"],
        "budget": run["budget"],
        "n": len(lines),
        "failures": len(lines) - len(answered),
        "unparseable": sum(bool(line["unparseable"]) for line in lines),
        "accuracy": _mean([score for _, score in scores.values()]),
        "chance": run["chance"],
        "tokens_kept": _spread(kept),
        "compression": 1 - mean_kept / run["patches"] if kept else 0.0,
        "evidence_recall": _mean([line["evidence_recall"] for line in answered if line["evidence_recall"] is not None]),
        "flops": {part: _mean([line["flops"][part] for line in answered]) for part in FLOPS_PARTS},
        "units": len(scores),
        "shard": run.get("shard"),
        "patches": run["patches"],
        "skills": {skill: fmean(scores) for skill, scores in sorted(by_skill.items())},
        "stages": {name: _spread(counts) for name, counts in stages.items()},
        **{
            name: _mean([line[name] for line in answered if line.get(name) is not None])
            for name in ("irrelevant", "repeated")
        },
        "seconds_per_sample": _mean([line["seconds"] for line in answered]),
        "official": official(run.get("figures"), lines),
        "lmms_eval": run["lmms_eval"],
        "note": run.get("note", ""),
    }


def unit_scores(lines: Sequence[Mapping[str, Any]]) -> dict[Any, tuple[str | None, float]]:
    """Skill and score of each unit: of a sample, or of those that count as one and are right only together.

    Samples that a server scores have none.
    """
    found: dict[Any, tuple[str | None, float]] = {}
    for number, line in enumerate(line for line in lines if line["score"] is not None):
        name = line.get("unit") or number
        skill, score = found.get(name, (line.get("skill"), line["score"]))
        found[name] = skill, min(score, line["score"])
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {"mean": 0.0, "std": 0.0, "min": 0.0, "max": 0.0}
    return {"mean": fmean(values), "std": pstdev(values), "min": min(values), "max": max(values)}


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
