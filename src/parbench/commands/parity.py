"""``parbench parity``: compare methods with recorded outputs of the authors' code."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import counted, working

if TYPE_CHECKING:
    from parbench.parity.runners import Outcome


def run(given: Given) -> int:
    """Compare every recorded case of a folder and print a table, or JSON.

    Returns:
        1 if a case differs or fails, else 0. Cases of unknown methods are skipped.

    Raises:
        ParbenchError: The argument is not a folder, or a case in it cannot be read.
    """
    if len(given.rest) != 1:
        raise ParbenchError("parity takes one folder of recorded cases: write parbench parity tests/golden")
    folder = Path(given.rest[0]).expanduser()
    if not folder.is_dir():
        raise ParbenchError(f"{folder} is not a folder: give one with recorded cases, such as tests/golden")
    with working("reading cases"):
        import torch

        from parbench.parity.case import load_cases
        from parbench.parity.runners import compare

        cases = load_cases(folder)
    with torch.inference_mode():
        outcomes = compare(counted(cases, "comparing", "case", len(cases)))
    if given["json"]:
        print(json.dumps([_line(outcome) for outcome in outcomes], indent=2))
    else:
        show(outcomes)
    return int(any(outcome.status in ("mismatch", "error") for outcome in outcomes))


def _line(outcome: Outcome) -> dict[str, Any]:
    def finite(error: float | None) -> float | None:
        # JSON has no infinity. The reason is in the verdict.
        return error if error is not None and math.isfinite(error) else None

    verdict = outcome.verdict
    return {
        "method": outcome.case.method,
        "case": outcome.case.name,
        "indices": verdict.indices,
        "order": verdict.order,
        "values": finite(verdict.values),
        "logits": finite(verdict.logits),
        "verdict": outcome.status,
        "reason": outcome.reason,
    }


def show(outcomes: list[Outcome]) -> None:
    """Print a table with one row per case."""
    from rich.console import Console
    from rich.table import Table

    from parbench.parity.case import TOLERANCE

    def flag(value: bool | None) -> str:
        return "" if value is None else "same" if value else "differ"

    def error(value: float | None) -> str:
        return "" if value is None else f"{value:.1e}"

    console = Console() if sys.stdout.isatty() else Console(width=140)
    table = Table(title="Recorded outputs of official code")
    for name in ("method", "case", "indices", "order", "values", "logits", "verdict", "why"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("why", "case"))
    for outcome in sorted(outcomes, key=lambda one: (one.case.method, one.case.name)):
        verdict = outcome.verdict
        table.add_row(
            outcome.case.method,
            outcome.case.name,
            flag(verdict.indices),
            flag(verdict.order),
            error(verdict.values),
            error(verdict.logits),
            outcome.status,
            outcome.reason,
        )
    console.print(table)
    counts = Counter(outcome.status for outcome in outcomes)
    compared = len(outcomes) - counts["skipped"]
    summary = f"{counts['match']} of {compared} cases match, {counts['skipped']} skipped."
    console.print(
        f"{summary} values, logits: greatest difference, relative to the greatest recorded magnitude; at most {TOLERANCE:g} is "
        "a match.",
        style="dim",
        highlight=False,
    )
