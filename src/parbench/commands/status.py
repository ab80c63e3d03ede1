"""``parbench status``: the state of the runs in some folders, also while they are running."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from parbench.commands.folders import folders_of
from parbench.commands.parsing import Given
from parbench.progress import duration
from parbench.results.status import RunState, overview, summary


def run(given: Given) -> None:
    """Print one line per run and a summary, or with ``--json`` a list for scripts.

    Raises:
        ParbenchError: A folder does not exist.
    """
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
    # Fields that are the same for all runs have no column.
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
