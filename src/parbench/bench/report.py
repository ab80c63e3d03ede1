"""The report of a benchmark: table, targets and figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Targets: measured over predicted speed-up of prefill, and selection over unreduced prefill.
LEAST_OF_PREDICTED, MOST_SELECTION = 0.8, 0.03
_COLUMNS = (
    "method",
    "batch",
    "visual tokens",
    "vision ms",
    "selection ms",
    "prefill ms",
    "TTFT ms",
    "decode tok/s",
    "answers/s",
    "peak MB",
    "KV MB",
    "prefill predicted",
    "prefill measured",
    "m / p",
    "TTFT predicted",
    "TTFT measured",
    "m / p ",
)
Row = Mapping[str, Any]


def title(row: Row) -> str:
    """A method with its budget."""
    return row["method"] if row["budget"] is None else f"{row['method']} @{row['budget']:g}"


def measured(rows: Sequence[Row]) -> list[Row]:
    """The rows with figures, by batch size, unreduced first."""
    found = [row for row in rows if "measured" in row]
    return sorted(found, key=lambda row: (row["batch"], row["method"] != "none"))


def cells(row: Row) -> list[str]:
    """The cells of a row of the table."""
    figures, speedup = row["measured"], row["speedup"]
    seconds = figures["seconds"]

    def milliseconds(name: str) -> str:
        low, high = seconds[name]["low"], seconds[name]["high"]
        return f"{1000 * seconds[name]['median']:.4g} ±{500 * (high - low):.2g}"

    def both(stage: str) -> list[str]:
        one = speedup[stage]
        return [f"{one['predicted']:.2f}x", f"{one['median']:.2f}x", f"{one['measured_over_predicted']:.2f}"]

    rate, over = figures["decode_tokens_per_second"], figures["memory_bytes"]["over"]
    return [
        title(row),
        str(row["batch"]),
        f"{row['tokens_kept']['mean']:.1f}",
        *(milliseconds(name) for name in ("vision", "selection", "prefill", "ttft")),
        "" if rate is None else f"{rate['median']:.4g}",
        f"{figures['answers_per_second']['median']:.3g}",
        "" if over is None else f"{over / 1e6:.4g}",
        f"{figures['kv_cache_bytes'] / 1e6:.4g}",
        *both("prefill"),
        *both("ttft"),
    ]


def markdown(content: Mapping[str, Any]) -> str:
    """The table in Markdown, preceded by the machine and followed by targets and refusals."""
    settings, environment = content["settings"], content["environment"]
    names = [name.strip() for name in _COLUMNS]
    lines = [
        f"{heading(content)}; {environment['threads']} threads, torch {environment['torch']}, transformers "
        f"{environment['transformers']}, attention {settings['attention']} (kernel {settings['kernel']}).",
        "",
        f"| {' | '.join(names)} |",
        f"|---|{'---:|' * (len(names) - 1)}",
        *(f"| {' | '.join(cells(row))} |" for row in measured(content["rows"])),
        "",
        *(f"* {line}" for line in aims(content["rows"])),
        *(f"* {title(row)}, batch {row['batch']}: {row['refused']}" for row in content["rows"] if "refused" in row),
    ]
    return "\n".join(lines)


def heading(content: Mapping[str, Any]) -> str:
    """Model, device and effort in one line."""
    settings, environment = content["settings"], content["environment"]
    kind = "random weights" if settings["weights"] == "random" else "checkpoint"
    layers = f", {settings['llm_layers']} of its LLM layers" if settings["llm_layers"] else ""
    return (
        f"{settings['model']} ({kind}{layers}), {settings['dtype']}, {environment['device']}, {settings['repeats']} repeats of "
        f"{settings['new_tokens']} tokens"
    )


def show(content: Mapping[str, Any]) -> None:
    """Print the table, the targets and the refused rows."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(title=heading(content))
    for name in _COLUMNS:
        table.add_column(name.replace(" ", "\n", 1), justify="left" if name == "method" else "right", no_wrap=True)
    for row in measured(content["rows"]):
        table.add_row(*cells(row))
    console.print(table)
    for line in [*aims(content["rows"]), *_notes(content)]:
        console.print(line, style="dim", highlight=False, soft_wrap=True)


def _notes(content: Mapping[str, Any]) -> list[str]:
    notes = [
        "± half the interquartile range; speed-ups are medians of paired ratios, none over method; none against "
        "itself is the noise floor",
        f"peak MB: {content['environment']['memory']}",
    ]
    notes += dict.fromkeys(f"{row['method']}: {row['note']}" for row in content["rows"] if row.get("note"))
    return notes + [f"{title(row)}, batch {row['batch']}: {row['refused']}" for row in content["rows"] if "refused" in row]


def aims(rows: Sequence[Row]) -> list[str]:
    """The targets, and the methods that miss them."""
    found = [row for row in measured(rows) if row["method"] != "none"]

    def said(what: str, missing: list[str]) -> str:
        return f"{what}: {len(found) - len(missing)} of {len(found)}" + (f"; not {', '.join(missing)}" if missing else "")

    def named(row: Row, value: str) -> str:
        return f"{title(row)} batch {row['batch']} ({value})"

    prefill = [(row, row["speedup"]["prefill"]["measured_over_predicted"]) for row in found]
    share = [(row, row["selection_share"]["median"]) for row in found]
    ttft = [(row, row["speedup"]["ttft"]["median"]) for row in found]
    return [
        said(
            f"prefill at least {LEAST_OF_PREDICTED:g} of what FLOPs predict",
            [named(row, f"{value:.2f}") for row, value in prefill if value < LEAST_OF_PREDICTED],
        ),
        said(
            f"selection at most {100 * MOST_SELECTION:g} % of unreduced prefill",
            [named(row, f"{100 * value:.1f} %") for row, value in share if value > MOST_SELECTION],
        ),
        said(
            "first token no later than without reduction",
            [named(row, f"{value:.2f}x") for row, value in ttft if value < 1],
        ),
    ]


def picture(content: Mapping[str, Any], path: Path) -> None:
    """Write a PNG with predicted and measured speed-up of each method, for prefill and first token, one row per batch size."""
    from matplotlib.figure import Figure

    rows = [row for row in measured(content["rows"]) if row["method"] != "none"]
    batches = sorted({row["batch"] for row in rows})
    if not rows:
        return
    methods = sorted({row["method"] for row in rows}, reverse=True)
    height = 0.24 * len(methods) + 1.2
    figure = Figure(figsize=(11, height * len(batches) + 0.4), dpi=110, layout="constrained")
    axes = figure.subplots(len(batches), 2, squeeze=False, sharey=True)
    for line, batch in zip(axes, batches, strict=True):
        for axis, stage, name in zip(line, ("prefill", "ttft"), ("LLM prefill", "pixels to first token"), strict=True):
            _speedups(axis, [row for row in rows if row["batch"] == batch], stage, methods)
            axis.set_title(f"{name}, batch {batch}", fontsize=10)
    # Speed-ups are smaller on the right, which leaves room.
    axes[0][1].legend(fontsize=7, loc="lower right")
    figure.suptitle(heading(content), fontsize=11)
    figure.savefig(path, metadata={"Software": None})


def _speedups(axis: Any, rows: Sequence[Row], stage: str, methods: Sequence[str]) -> None:
    budgets = sorted({row["budget"] for row in rows}, key=lambda budget: (budget is None, budget or 0))
    for number, budget in enumerate(budgets):
        mine = [row for row in rows if row["budget"] == budget]
        # The budgets of a method are slightly offset.
        y = [methods.index(row["method"]) + 0.22 * (number - (len(budgets) - 1) / 2) for row in mine]
        ones = [row["speedup"][stage] for row in mine]
        predicted, found = [one["predicted"] for one in ones], [one["median"] for one in ones]
        error = [[one["median"] - one["low"] for one in ones], [one["high"] - one["median"] for one in ones]]
        colour, label = f"C{number}", "no budget" if budget is None else f"{budget:g} tokens"
        axis.hlines(y, predicted, found, color=colour, linewidth=0.8, alpha=0.6)
        axis.plot(predicted, y, "|", markersize=7, color=colour, label=f"{label}: predicted by FLOPs")
        axis.errorbar(found, y, xerr=error, fmt="o", markersize=3.5, linewidth=0.8, color=colour, label=f"{label}: measured")
    axis.axvline(1, color="0.7", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(methods)), methods, fontsize=7.5)
    axis.set_xlim(left=0)
    axis.set_xlabel("speed-up over no reduction")
    axis.grid(axis="y", color="0.92", linewidth=0.6)
    axis.set_axisbelow(True)
