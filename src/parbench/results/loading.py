"""Finished runs as data frames."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        runs: One row per run: ``run_id``, ``label``, the fields of ``metrics.json``, the identity by its dotted names
            (``limit``, ``dataset.split``, ``engine.batch_size``, ``versions.torch`` ...), ``settings`` (the method's fields).
        samples: One row per sample of a run: ``run_id``, ``id``, ``image_id`` and the fields of ``samples.jsonl``.
        ignored: Files and folders among the runs that are not runs.
        unfinished: Folders of runs without ``metrics.json``; they are in the frames only if that was requested.
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
    """Load runs as tidy data frames, ordered by model, data set, method and budget; copies of a run count once.

    Args:
        paths: Run folders, or folders that contain runs at any depth; ``samples.jsonl`` may be compressed (``.gz``, ``.xz``).
        unfinished: Whether to include unfinished runs with the samples that they have.
        columns: The sample columns to include besides ``run_id`` and ``id``; None for all.

    Raises:
        ParbenchError: A path does not exist, a run is damaged or of another format, or there is no run.
    """
    from parbench.results.frames import runs_frame, samples_frame

    with _uncollected():
        runs, found, stopped = read_runs(paths, unfinished=unfinished)
        return Results(runs_frame(runs), samples_frame(runs, columns), found.ignored, stopped)


def read_runs(paths: str | Path | Sequence[str | Path], *, unfinished: bool = False) -> tuple[list[Run], Found, tuple[Path, ...]]:
    """The runs in some folders, everything found there, and the folders of unfinished runs; see :func:`load`.

    Raises:
        ParbenchError: A path does not exist, a run is damaged or of another format, or there is no run.
    """
    found, wanted, stopped = find_runs([Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)], unfinished)
    with _uncollected():
        return in_order(read(folder) for folder in wanted), found, stopped


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pauses the search for garbage: millions of new objects set it off again and again, and none of them is garbage."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def find_runs(named: Sequence[Path], unfinished: bool = False) -> tuple[Found, list[Path], tuple[Path, ...]]:
    """The content of some folders, the folders of the wanted runs, and those of unfinished runs, without reading any run.

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
