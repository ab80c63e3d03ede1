"""The runs that a command is about: folders that are named, and ``field=value`` of those that are wanted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.options import default_results, unquoted

if TYPE_CHECKING:
    from parbench.results.loading import Results

_log = logging.getLogger(__name__)


def words_of(words: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """Paths, and what chooses among the runs in them; a path may hold an equals sign, a key has no slash."""
    chooses = {word for word in words if "=" in word and "/" not in word.partition("=")[0] and not Path(word).exists()}
    where = (word.split("=", 1) for word in words if word in chooses)
    return [Path(word) for word in words if word not in chooses], {key: unquoted(value) for key, value in where}


def chosen(paths: Sequence[Path], where: Mapping[str, str], columns: Sequence[str] | None, used: Collection[str] = ()) -> Results:
    """The runs in some folders that have the wanted values; says on the error stream what was left out.

    Args:
        paths: Folders; ``results/runs`` where there are none.
        where: Fields of a run and their wanted values.
        columns: Of the samples; None for all.
        used: Endings of files beside the runs that the command uses.

    Raises:
        ParbenchError: There are none.
    """
    from parbench.results import load
    from parbench.results.select import choose

    results = load(list(paths) or [default_results()], columns=columns)
    foreign = [path for path in results.ignored if path.suffix not in used]
    for what, those in (("no run", foreign), ("not finished", results.unfinished)):
        if those:
            named = ", ".join(str(path) for path in those[:3])
            more = f" and {len(those) - 3} more" if len(those) > 3 else ""
            _log.warning(f"skipped: {named}{more} ({what})")
    return replace(results, runs=choose(results.runs, where))
