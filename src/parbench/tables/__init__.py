"""Tables of runs: what ``parbench eval``, ``sweep`` and ``table`` print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

# The views that eval and sweep print; parbench table has more.
_AFTER_RUNS = ("answers", "official", "tokens", "controls")


def show(folders: Sequence[Path], labels: Sequence[str] | None = None) -> None:
    """Print the tables of some finished runs of one model and data set.

    Args:
        folders: Their folders.
        labels: Label of each folder; empty for method and budget. A run that is given twice gets both labels.
    """
    from parbench.results import load
    from parbench.tables.comparing import COLUMNS, compare
    from parbench.tables.rendering import print_views
    from parbench.tables.views import views

    results = load(folders, columns=COLUMNS)
    names: dict[str, list[str]] = defaultdict(list)
    for folder, label in zip(folders, labels or [""] * len(folders), strict=True):
        names[folder.name] += [label] if label else []
    wanted = (*_AFTER_RUNS, "stages") if any(names.values()) else _AFTER_RUNS
    called = {run: " = ".join(dict.fromkeys(those)) for run, those in names.items()}
    print_views(views(compare(results, labels=called, quantized=True), wanted))
