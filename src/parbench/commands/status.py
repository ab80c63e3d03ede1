"""``parbench status``: what became of the runs in a folder, while they go on or after."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from parbench.commands.options import results_dir, split_options
from parbench.errors import ParbenchError
from parbench.results.status import RunState, duration, overview, summary


def run(words: list[str]) -> None:
    """Print a line a run and one for the whole; with ``--json`` a list for scripts."""
    options, rest = split_options([word for word in words if word != "--json"], {"results_dir": ""})
    if rest:
        raise ParbenchError(f"status does not know {rest[0]}: write parbench status results_dir=FOLDER --json")
    runs = overview(results_dir(options["results_dir"]))
    if "--json" in words:
        print(json.dumps([one.to_json() for one in runs], indent=2))
        return
    _show(runs)


def _show(runs: Sequence[RunState]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=120)
    table = Table()
    # What is the same for all says nothing.
    several = [key for key in ("model", "dataset", "limit", "shard") if len({getattr(one, key) for one in runs}) > 1]
    for name in ("run", "method", *several, "questions", "state", "left"):
        table.add_column(name, justify="right" if name in ("questions", "left") else "left", no_wrap=True)
    for one in runs:
        left = "" if one.seconds_left is None else duration(one.seconds_left)
        said = f"{one.state}: {one.holder}" if one.holder else one.state
        shared = ["" if getattr(one, key) is None else str(getattr(one, key)) for key in several]
        total = "?" if one.total is None else one.total
        table.add_row(one.run_id, one.name, *shared, f"{one.done}/{total}", said, left)
    if runs:
        console.print(table)
    for one in runs:
        if one.reason:
            console.print(f"{one.name} ({one.run_id}) failed: {one.reason}", highlight=False, soft_wrap=True, markup=False)
    console.print(summary(runs), highlight=False, soft_wrap=True)
