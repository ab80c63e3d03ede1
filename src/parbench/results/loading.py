"""Finished runs as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.errors import ParbenchError
from parbench.results.folders import Found, Run, find, in_order, is_finished, read

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """Runs and their samples.

    Attributes:
        runs: One row a run: ``run_id``, ``label``, what ``metrics.json`` holds, the identity by its dotted names
            (``limit``, ``dataset.split``, ``engine.batch_size``, ``versions.torch`` ...), ``settings`` (the method's fields).
        samples: One row a sample of a run: ``run_id``, ``id``, ``image_id`` and the fields of ``samples.jsonl``.
        ignored: Files and folders beside the runs that are none.
        unfinished: Runs without ``metrics.json``; they are in the tables only if that was asked for.
    """

    runs: pd.DataFrame
    samples: pd.DataFrame
    ignored: tuple[Path, ...] = ()
    unfinished: tuple[Path, ...] = ()


def load(
    paths: str | Path | Sequence[str | Path] = "results/runs",
    *,
    unfinished: bool = False,
    columns: Sequence[str] | None = None,
) -> Results:
    """Runs as tidy data frames, ordered by model, data set, method and budget; a run that is there twice counts once.

    Args:
        paths: Run folders, or folders that hold some at any depth; ``samples.jsonl`` may be compressed (``.gz``, ``.xz``).
        unfinished: Also runs that were stopped, with what they have.
        columns: Only these columns of the samples, besides ``run_id`` and ``id``; all of them where not given.

    Raises:
        ParbenchError: A path does not exist, a run is damaged or of another format, or there is no run.
    """
    from parbench.results.frames import runs_frame, samples_frame

    runs, found, stopped = read_runs(paths, unfinished=unfinished)
    return Results(runs_frame(runs), samples_frame(runs, columns), found.ignored, stopped)


def read_runs(paths: str | Path | Sequence[str | Path], *, unfinished: bool = False) -> tuple[list[Run], Found, tuple[Path, ...]]:
    """The runs in some folders, what else is there, and folders of runs that are not finished; see :func:`load`.

    Raises:
        ParbenchError: A path does not exist, a run is damaged or of another format, or there is no run.
    """
    found, wanted, stopped = find_runs([Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)], unfinished)
    return in_order(read(folder) for folder in wanted), found, stopped


def find_runs(named: Sequence[Path], unfinished: bool = False) -> tuple[Found, list[Path], tuple[Path, ...]]:
    """What is in some folders, the folders of runs that are wanted, and of those that are not finished; none of them is read.

    Raises:
        ParbenchError: A path does not exist or is not a folder, or there is no run.
    """
    found = find(named)
    stopped = tuple(folder for folder in found.runs if not is_finished(folder))
    wanted = [folder for folder in found.runs if unfinished or folder not in stopped]
    if not wanted:
        raise ParbenchError(_empty(named, len(stopped)))
    return found, wanted, stopped


def _empty(paths: Sequence[Path], stopped: int) -> str:
    where = ", ".join(str(path) for path in paths) or "nothing"
    if stopped:
        return (
            f"no finished run in {where}, but {stopped} that were stopped: run the same commands again, they go on where they "
            "stopped"
        )
    return f"no run in {where}: make some with parbench eval or parbench sweep, or name another folder"
