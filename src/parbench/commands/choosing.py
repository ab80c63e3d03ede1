"""The runs that a command works on: folders, and ``field=value`` filters."""

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
    """Split words into paths and ``field=value`` filters.

    A word with an equals sign is a filter, unless a path of that name exists or there is a slash before the sign.
    """
    chooses = {word for word in words if "=" in word and "/" not in word.partition("=")[0] and not Path(word).exists()}
    where = (word.split("=", 1) for word in words if word in chooses)
    return [Path(word) for word in words if word not in chooses], {key: unquoted(value) for key, value in where}


def chosen(paths: Sequence[Path], where: Mapping[str, str], columns: Sequence[str] | None, used: Collection[str] = ()) -> Results:
    """The runs in some folders that have the wanted values. Skipped folders and files are logged as a warning.

    Args:
        paths: Folders of runs; ``results/runs`` if empty.
        where: Fields of a run and their wanted values.
        columns: Columns of the samples to read; None for all.
        used: File suffixes, such as ``.json``, that the command itself reads; these files are not reported as skipped.

    Raises:
        ParbenchError: There are no such runs.
    """
    from parbench.results import load
    from parbench.results.select import choose

    results = load(list(paths) or [default_results()], columns=columns)
    foreign = [path for path in results.ignored if path.suffix not in used]
    for what, those, said in (("no run", foreign, str), ("not finished", results.unfinished, _unfinished)):
        if those:
            named = ", ".join(said(path) for path in those[:3])
            more = f" and {len(those) - 3} more" if len(those) > 3 else ""
            _log.warning(f"skipped: {named}{more} ({what})")
    return replace(results, runs=choose(results.runs, where))


def _unfinished(folder: Path) -> str:
    """An unfinished run in words: its method, budget and number of questions, and its folder."""
    from parbench.results.naming import row_name
    from parbench.results.run_identity import FILE, read_provenance

    try:
        identity = read_provenance(folder / FILE).comparable
        limit = f" limit={identity['limit']}" if identity.get("limit") else ""
        return f"{row_name(identity['method'])}{limit} in {folder}"
    except (ValueError, OSError, KeyError, TypeError):
        # Damaged or of another format; status says more.
        return str(folder)
