"""``parbench merge``: merge the shards of runs."""

from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING

from parbench.commands.folders import folders_of
from parbench.commands.parsing import Given
from parbench.errors import FatalError, ParbenchError
from parbench.results.run_identity import run_id
from parbench.results.shards import check_whole, find_shards

if TYPE_CHECKING:
    from parbench.harness.evaluate import Run

_log = logging.getLogger(__name__)


def run(given: Given) -> int:
    """Merge every run whose shards are complete, and print the tables of the merged runs.

    Returns:
        0, or 1 if a run could not be merged.

    Raises:
        ParbenchError: The only run in the folders could not be merged.
    """
    sets = find_shards(folders_of(given))
    failed, found = [], []
    for shards in sets:
        root = given["out"] or shards[0].folder.parent
        try:
            # A shard with other settings by mistake belongs to a smaller set; the message names it.
            others = [one for other in sets if len(other) < len(shards) for one in other]
            whole = check_whole(shards, others)
        except ParbenchError as error:
            if not (root / run_id(shards[0].whole) / "metrics.json").exists():
                failed.append(error)
            continue
        from parbench.harness.merge import merge

        try:
            merged = merge(whole, root)
        except FatalError:
            raise
        except ParbenchError as error:
            failed.append(error)
            continue
        done = "merged before" if merged.reused else f"{len(whole)} shards merged"
        _log.info(f"{whole[0].run}: {done} ({merged.folder})")
        found.append(merged)
    if len(sets) == 1 and failed:
        raise failed[0]
    for said in failed:
        _log.error(f"parbench: {said}", exc_info=said)
    _show(found)
    return 1 if failed else 0


def _show(found: list[Run]) -> None:
    from parbench.tables import show

    def subject(run: Run) -> tuple[str, str, int]:
        return run.metrics.model, run.metrics.dataset, run.metrics.n

    for _, runs in groupby(sorted(found, key=subject), key=subject):
        show([run.folder for run in runs])
