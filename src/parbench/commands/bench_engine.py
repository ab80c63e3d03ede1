"""``parbench bench --engine``: the speed of evaluations and the agreement of answers, compared with stock lmms-eval."""

from __future__ import annotations

import json
from typing import Any

from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.config import compose_config
from parbench.errors import ParbenchError

# Used if none are given.
_METHODS = ["none", "par"]
_BUDGETS = [192, 128, 64]


def run(given: Given) -> None:
    """Answer the same questions with stock lmms-eval and with both engines, exact and shared; print rates and agreement.

    ``sweep=[par,fastv] budgets=[128,64]`` also measures the rate of a sweep over these methods and none. ``memory=[300,3000]``
    also measures the peak memory of evaluations with these numbers of questions.

    Raises:
        ParbenchError: An option or override is wrong.
    """
    rest, questions = given.rest, given["questions"]
    methods = given["methods"] if "methods" in given.named else _METHODS
    budgets = given["budgets"] if "budgets" in given.named else _BUDGETS
    if not all(isinstance(one, int) for one in budgets):
        raise ParbenchError(f"{given.typed('budgets')[0]} is not a list of numbers of tokens: write budgets=[192,64]")
    swept = [compose_config([*rest, f"method={name}"]).method for name in given["sweep"] or ()]
    out = writable("out", given["out"]) if given["out"] else None
    # Composed before anything runs, so that a wrong override is reported first.
    chosen = {name: compose_config([*rest, f"method={name}"]).method for name in methods}
    configs = {kind: compose_config([*rest, f"engine={kind}", f"limit={questions}"]) for kind in ("exact", "shared")}
    from parbench.bench.throughput import Rates

    rates = Rates(configs, with_stock=given["stock"])
    for name, method in chosen.items():
        rates.measure(method, None if name == "none" else given["budget"])
    if swept:
        rates.sweep(swept, budgets)
    found = rates.report()
    from parbench.bench.process_rss import peak_bytes

    found["memory"] = [
        {
            "method": name,
            "questions": size,
            "peak_bytes": peak_bytes([*rest, f"method={name}", "controls=[]", f"limit={size}"]),
        }
        for name in methods
        for size in given["memory"] or ()
    ]
    _show(found)
    if out:
        out.write_text(json.dumps(found, indent=2) + "\n")
        print(out)


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(
        title=f"{found['questions']} questions of {found['dataset']}, {found['model']}, {found['device']}, "
        f"{found['threads']} threads"
    )
    for name in ("evaluated by", "method", "seconds", "questions/s", "x stock"):
        table.add_column(name, justify="left" if name in ("evaluated by", "method") else "right")
    for row in found["rates"]:
        times = "" if row["times_stock"] is None else f"{row['times_stock']:.1f}"
        table.add_row(row["by"], row["method"], f"{row['seconds']:.1f}", f"{row['rate']:.1f}", times)
    console.print(table)
    for row in found["work"]:
        name, time = row["method"] if row["budget"] is None else f"{row['method']} @{row['budget']}", row["time"]
        console.print(
            f"{name}, engine=shared: {100 * row['share_of_matmul_rate']:.0f} % of this machine's "
            f"{row['matmul_flops_per_second'] / 1e9:.0f} GFLOP/s in matrix products; time: {100 * time['products']:.0f} % matrix "
            f"products and attention, {100 * time['other']:.0f} % other tensor operations, {100 * time['outside']:.0f} % outside "
            "torch",
            highlight=False,
            soft_wrap=True,
        )
    if sweep := found["sweep"]:
        times = "" if sweep["times_stock"] is None else f", {sweep['times_stock']:.1f} x stock"
        console.print(
            f"a sweep of {len(sweep['cells'])} cells: {sweep['seconds']:.0f} s, {sweep['rate']:.1f} questions/s{times}",
            highlight=False,
        )
    for row in found["memory"]:
        console.print(f"{row['method']}: {row['questions']} questions, peak {row['peak_bytes'] / 1e9:.2f} GB", highlight=False)
    for row in found["agreement"]:
        console.print(
            f"{row['method']}: {row['of']} gives the same answer as {row['to']} to {row['same']} of {row['questions']} questions"
            + (f", other tokens kept {row['other_tokens']}" if row["other_tokens"] is not None else ""),
            highlight=False,
        )
        for one in row["differing"]:
            margin = "unknown" if one["margin"] is None else f"{one['margin']:.2e}"
            console.print(f"  {one['id']}: {one['one']!r}, {one['other']!r}; margin {margin}", highlight=False)
