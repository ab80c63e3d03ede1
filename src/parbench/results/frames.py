"""Runs and samples as data frames."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from parbench.errors import unknown
from parbench.results.comparable import flatten, surroundings, text
from parbench.results.controls import is_control
from parbench.results.delivery import deviation, source
from parbench.results.folders import Run
from parbench.results.naming import row_name
from parbench.results.record import FLOPS_PARTS, METRICS_FIELDS, SAMPLE_FIELDS, RunMetrics, columns
from parbench.results.samples import column

# FLOPs of a sample up to the first token: vision, projector, method overhead, LLM prefill.
_PREFILL = ("vision", "projector", "reducer", "llm_prefill")
# Metrics that give several columns in the frame of runs, or have a shorter name there.
_SPREAD_OUT = ("tokens_kept", "flops", "seconds_per_sample", "own_tokens")
_PARTS = tuple(f"flops_{part}" for part in FLOPS_PARTS)
_NUMBERS_OF_RUNS = columns(METRICS_FIELDS, "number") | {"seconds", "off_budget", "own_tokens", "flops_prefill", *_PARTS}
# What a sample is scored with, and its turn in a conversation with its costs, always belong to it, like its id.
ALWAYS = ("unit", "turn", "kv_bytes", "kv_written")
_KINDS_OF_SAMPLES = {
    "str": columns(SAMPLE_FIELDS, "text"),
    "float64": columns(SAMPLE_FIELDS, "number") | set(_PARTS),
}


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """A frame with one row per run."""
    frame = pd.DataFrame([_row(run) for run in runs])
    frame.insert(1, "label", _labels(runs))
    return frame


def _row(run: Run) -> dict[str, Any]:
    flat = flatten(run.identity)
    settings = run.identity["method"]
    metrics = run.metrics or _so_far(run)
    row = {
        "run_id": run.id,
        "folder": str(run.folder),
        "finished": run.metrics is not None,
        **{name: getattr(metrics, name) for name in METRICS_FIELDS if name not in _SPREAD_OUT},
        **{f"tokens_{key}": value for key, value in metrics.tokens_kept.items()},
        **{f"flops_{part}": metrics.flops[part] for part in FLOPS_PARTS},
        "flops_prefill": sum(metrics.flops[part] or 0.0 for part in _PREFILL) or None,
        "seconds": metrics.seconds_per_sample,
        "own_tokens": metrics.own_tokens["mean"] if metrics.own_tokens else None,
        "off_budget": deviation(metrics),
        "found_on": source(run.identity.get("calibration")),
        "control": is_control(metrics),
        **{key: value for key, value in flat.items() if not key.startswith("method")},
        # Includes the quantization of its weights, which is a separate field of the identity.
        "model": metrics.model,
        "quantization": flat.get("quantization") or "",
        "per": metrics.per or "",
        "settings": dict(settings),
        "identity": run.identity,
        "computed_by": list(run.computed_by),
        "old": run.old,
    }
    return {key: (float("nan") if value is None and key in _NUMBERS_OF_RUNS else value) for key, value in row.items()}


def _so_far(run: Run) -> RunMetrics:
    """The metrics of an unfinished run, over the samples so far."""
    from parbench.results.metrics import summarise

    method = run.identity["method"]
    about = {"model": run.identity["model"], "method": method["name"], "dataset": run.identity["dataset"]["name"]}
    about |= {"figures": run.identity["dataset"].get("figures")}
    about |= {"run_id": run.id, "budget": method.get("budget"), "per": method.get("per"), "chance": None, "lmms_eval": {}}
    # The number of tokens without reduction is known only when the run is finished, unless samples record it.
    return summarise(run.lines, {**about, "patches": None})


def _labels(runs: Sequence[Run]) -> list[str]:
    """A label per run: method and budget, with the fields that distinguish runs that share these."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    named = [_label(run) for run in runs]
    for place, run in enumerate(runs):
        alike[named[place], *surroundings(run.identity).values()].append(place)
    for places in alike.values():
        # The fields of the parts of a composed method are told apart one by one.
        settings = [flatten(runs[place].identity["method"]) for place in places]
        # Runs that do not set a field that came later lack it.
        fields = dict.fromkeys(key for own in settings for key in own)
        told = [key for key in fields if len({text(own.get(key)) for own in settings}) > 1]
        for place, own in zip(places, settings, strict=True) if told else ():
            named[place] = _label(runs[place], *(f"{key}={text(own.get(key))}" for key in told))
    return named


def _label(run: Run, *details: str) -> str:
    quantized, turns = (run.identity.get("quantization") or {}).get("name"), run.identity.get("turns")
    return " ".join(filter(None, (row_name(run.identity["method"], *details), quantized, turns if turns != "any" else None)))


def samples_frame(runs: Sequence[Run], chosen: Sequence[str] | None = None) -> pd.DataFrame:
    """A frame with one row per sample.

    Args:
        runs: The runs.
        chosen: The columns to include besides ``run_id`` and ``id``; None for all.

    Raises:
        ParbenchError: A requested column does not exist.
    """
    names, parts = _columns_of(runs), list(_PARTS)
    if chosen is not None:
        for name in chosen:
            if name not in ("id", *names, *parts):
                raise unknown("column of the samples", name, [*names, *parts])
        names = [name for name in names if name in chosen or name in ALWAYS]
        parts = [part for part in parts if part in chosen or (part == "flops_total" and "turn" in names)]
    data: dict[str, list[Any]] = {name: [] for name in ("run_id", "id", *names, *parts)}
    for run in runs:
        _extend(data, run, names, parts)
    frame = pd.DataFrame(data)
    # A column of only None has no dtype of its own.
    return frame.astype({name: kind for kind, those in _KINDS_OF_SAMPLES.items() for name in those if name in frame})


def _columns_of(runs: Sequence[Run]) -> list[str]:
    """The fields of samples and the data sets' own columns; those that samples may lack only if one has them."""
    ends = [line for run in runs for line in (*run.lines[:1], *run.lines[-1:])]
    # Fields that lines leave out are columns only if some line has them.
    absent = {name for name in (*ALWAYS, "own_tokens") if all(line.get(name) is None for line in ends)}
    names = [name for name in SAMPLE_FIELDS if name not in ("id", "flops") and name not in absent]
    return [*names, *dict.fromkeys(name for line in ends for name in line.kept_columns)]


def _extend(data: dict[str, list[Any]], run: Run, names: Sequence[str], parts: Sequence[str]) -> None:
    data["run_id"] += [run.id] * len(run.lines)
    data["id"] += column(run.lines, "id")
    for name in names:
        data[name] += column(run.lines, name)
    flops = column(run.lines, "flops") if parts else []
    for part in parts:
        data[part] += [_flops(counts, part.removeprefix("flops_")) for counts in flops]


def _flops(counts: Mapping[str, float] | None, part: str) -> float | None:
    return counts.get(part) if counts else None
