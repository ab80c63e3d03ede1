"""The accuracy-versus-compression table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

COLUMNS = (
    "method",
    "visual tokens",
    "compression",
    "accuracy",
    "vs none",
    "evidence recall",
    "prefill TFLOP",
    "saved",
    "s/sample",
)


def cell_name(method: str, budget: float | None) -> str:
    """What a method at a budget is called."""
    return method if budget is None else f"{method} @{budget:g}"


def prefill_flops(metrics: Mapping[str, Any]) -> float:
    """FLOPs of a sample up to the first token: vision, projector, the method's own work, LLM prefill."""
    flops = metrics["flops"]
    return sum(flops[part] or 0.0 for part in ("vision", "projector", "reducer", "llm_prefill"))


def row(metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, str]:
    """A row of text cells; ``baseline`` is the unreduced run's metrics."""
    kept = metrics["tokens_kept"]
    name = metrics.get("label") or cell_name(metrics["method"], metrics["budget"])
    recall = metrics["evidence_recall"]
    cells = {
        "method": name,
        "visual tokens": f"{kept['mean']:.1f} ± {kept['std']:.1f}",
        "compression": f"{100 * metrics['compression']:.1f} %",
        "accuracy": f"{100 * metrics['accuracy']:.1f} %",
        "vs none": "",
        "evidence recall": "" if recall is None else f"{100 * recall:.0f} %",
        "prefill TFLOP": f"{prefill_flops(metrics) / 1e12:.4f}",
        "saved": "",
        "s/sample": "" if metrics["seconds_per_sample"] is None else f"{metrics['seconds_per_sample']:.3f}",
    }
    if baseline is not None:
        if baseline["accuracy"]:
            cells["vs none"] = f"{100 * metrics['accuracy'] / baseline['accuracy']:.1f} %"
        if prefill_flops(baseline) and prefill_flops(metrics):
            cells["saved"] = f"{100 * (1 - prefill_flops(metrics) / prefill_flops(baseline)):.1f} %"
    return cells


def show(runs: Sequence[Mapping[str, Any]], console: Console | None = None) -> None:
    """Print a table of runs, the unreduced one first, and what a reader has to know to read it."""
    # Where the output is no terminal, rich takes 80 columns, which cuts figures off.
    console = console or (Console() if sys.stdout.isatty() else Console(width=120))
    baseline = next((run for run in runs if run["method"] == "none"), None)
    ordered = sorted(runs, key=lambda run: run["method"] != "none")
    first = ordered[0]
    part = f", shard {first['shard']}" if first.get("shard") else ""
    table = Table(title=f"{first['model']} on {first['dataset']}, n = {first['n']}{part}")
    for name in COLUMNS:
        # Two-line headers keep the table within 100 columns.
        table.add_column(name.replace(" ", "\n"), justify="left" if name == "method" else "right", no_wrap=True)
    for run in ordered:
        table.add_row(*row(run, baseline).values())
    console.print(table)
    if any(run.get("label") for run in ordered):
        console.print(_redundancy(ordered))
    notes = [
        "visual tokens: mean ± deviation over samples, averaged over LLM layers",
        "FLOPs: 2 per multiply-add, from the vision tower to the first token",
    ]
    notes += [f"chance {100 * first['chance']:.1f} %"] if first["chance"] is not None else []
    notes += [
        f"{run['method']}: {run['failures']} failed (counted wrong), {run['unparseable']} unparseable"
        for run in ordered
        if run["failures"] or run["unparseable"]
    ]
    notes += dict.fromkeys(f"{run['method']}: {run['note']}" for run in ordered if run.get("note"))
    for note in notes:
        console.print(note, style="dim", highlight=False, soft_wrap=True)


def _redundancy(runs: Sequence[Mapping[str, Any]]) -> Table:
    """What the stages of a method took away, and what is left that a question does not need, or has already."""
    stages = list(dict.fromkeys(name for run in runs for name in run["stages"]))
    table = Table(title="external and internal redundancy")
    for name in (
        "method",
        *(stage if "cluster" in stage else f"after {stage}" for stage in stages),
        "evidence recall",
        "irrelevant",
        "repeated",
    ):
        table.add_column(name.replace(" ", "\n"), justify="left" if name == "method" else "right", no_wrap=True)
    for run in runs:
        left = [f"{run['stages'][stage]['mean']:.1f}" if stage in run["stages"] else "" for stage in stages]
        shares = [run.get(key) for key in ("evidence_recall", "irrelevant", "repeated")]
        table.add_row(
            run.get("label") or run["method"],
            *left,
            *("" if share is None else f"{100 * share:.0f} %" for share in shares),
        )
    return table
