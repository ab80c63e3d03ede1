"""Folders of runs as arguments of commands: FOLDER, or ``results_dir=FOLDER``."""

from __future__ import annotations

from pathlib import Path

from parbench.commands.choosing import words_of
from parbench.commands.options import default_results
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError


def folders_of(given: Given) -> list[Path]:
    """The given folders, or the configured default.

    Raises:
        ParbenchError: A folder does not exist.
    """
    paths = [Path(word).expanduser() for word in given.rest] + ([given["results_dir"]] if given["results_dir"] else [])
    for path in paths:
        if not path.is_dir():
            raise ParbenchError(
                f"{path} {'is a file' if path.exists() else 'is not a folder'}: give the folder that a sweep writes to"
            )
    if paths or (usual := default_results()).is_dir():
        return paths or [usual]
    raise ParbenchError(f"the default folder {usual} does not exist: give the folder that a sweep writes to")


def chosen_words(given: Given) -> tuple[list[Path], dict[str, str]]:
    """The given folders and files, and the ``field=value`` filters of their runs.

    Raises:
        ParbenchError: A path does not exist.
    """
    paths, where = words_of(given.rest)
    for path in paths:
        if not path.exists():
            raise ParbenchError(f"{path} does not exist: name a run folder, or a folder of runs such as results/runs")
    return [*paths, *([given["results_dir"]] if given["results_dir"] else [])], where
