"""``parbench status``: what became of the runs in a folder, while they go on or after."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from parbench.commands.folders import folders_of
from parbench.commands.parsing import Given
from parbench.progress import duration
from parbench.results.status import RunState, overview, summary


def run(given: Given) -> None:
    """Print a line a run and one for the whole; with ``--json`` a list for scripts."""
    runs = [one for folder in folders_of(given) for one in overview(folder)]
    if given["json"]:
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
            console.print(f"{one.name} ({one.run_id}) {one.state}: {one.reason}", highlight=False, soft_wrap=True, markup=False)
    console.print(summary(runs), highlight=False, soft_wrap=True)
