"""Finds runs, in folders of their own or packed, and reads them, with a clear error for what is not a run or is damaged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parbench import __version__
from parbench.errors import ParbenchError
from parbench.results.metrics import read_metrics
from parbench.results.packed import FILE as PACKED
from parbench.results.packed import is_there, packed_in, packed_lines
from parbench.results.record import RunMetrics, SampleRecord, demand
from parbench.results.run_identity import FILE, Provenance, read_provenance
from parbench.results.samples import FILE as SAMPLES
from parbench.results.samples import PackedSamples, cause, read_samples, samples_path

# Fields of the identity that all readers of runs rely on.
_IDENTITY = (
    "model",
    "weights",
    "dtype",
    "method.name",
    "method.class",
    "dataset.name",
    "dataset.task",
    "dataset.metric",
    "dataset.split",
    "limit",
    "engine.name",
    "seed",
    "versions.torch",
)
# Deep enough for any layout, and a bound for symbolic links that point upwards.
_DEPTH = 6


@dataclass(frozen=True)
class Found:
    """The content of some folders.

    Attributes:
        runs: Run folders, ordered by name.
        ignored: Files and folders that neither are runs nor contain any.
    """

    runs: tuple[Path, ...]
    ignored: tuple[Path, ...]


@dataclass(frozen=True)
class Run:
    """A stored run.

    Attributes:
        id: Hash of its identity.
        folder: Its folder.
        identity: Its identity, in today's field names.
        computed_by: The code and devices that computed it (see ``parbench.provenance.computed_by``).
        old: Whether its folder is older than format 1, whose identity has fewer fields.
        metrics: ``metrics.json``; None while the run is not finished.
        lines: Its samples.
    """

    id: str
    folder: Path
    identity: dict[str, Any] = field(repr=False)
    computed_by: tuple[dict[str, Any], ...] = field(repr=False)
    old: bool
    metrics: RunMetrics | None
    lines: Sequence[SampleRecord] = field(repr=False)


def find(paths: Iterable[Path]) -> Found:
    """The run folders among and in some paths, each once.

    Raises:
        ParbenchError: A path does not exist or is not a folder.
    """
    runs: dict[Path, Path] = {}
    ignored: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir() and not is_there(path / FILE):
            what = "is a file" if path.exists() else "does not exist"
            raise ParbenchError(f"{path} {what}: name a run folder, or a folder of runs such as results/runs")
        inside, foreign = _walk(path, _DEPTH)
        for run in inside:
            runs.setdefault(run.resolve(), run)
        ignored |= dict.fromkeys(foreign)
    return Found(tuple(runs.values()), tuple(ignored))


def _walk(path: Path, depth: int) -> tuple[list[Path], list[Path]]:
    """Run folders at or below a folder, and the other files and folders found."""
    if is_there(path / FILE):
        return [path], []
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ParbenchError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    runs = [path / name for name in packed_in(path)]
    foreign: list[Path] = []
    for entry in entries:
        if runs and entry.name == PACKED:
            continue
        inside, beside = _walk(entry, depth - 1) if entry.is_dir() and depth else ([], [])
        runs += inside
        foreign += beside if inside else [entry]
    return runs, foreign


def is_finished(folder: Path) -> bool:
    """Whether a run folder holds a finished run."""
    return is_there(folder / "metrics.json")


def in_order(runs: Iterable[Run]) -> list[Run]:
    """The runs without copies, ordered by model (unquantised weights first), data set, method and descending budget."""
    once: dict[str, Run] = {}
    for run in runs:
        once.setdefault(run.id, run)

    def place(run: Run) -> tuple[str, str, str, str, float, str]:
        method = run.identity["method"]
        budget = method.get("budget")
        named = run.identity["dataset"]["name"], method["name"]
        quantized = (run.identity.get("quantization") or {}).get("name", "")
        return run.identity["model"], quantized, *named, float("-inf") if budget is None else -budget, run.id

    return sorted(once.values(), key=place)


def read(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ParbenchError: A file is damaged, lacks something, or belongs to another run.
    """
    provenance = _provenance(folder / FILE)
    identity, name, path = provenance.comparable, provenance.run_id, folder / "metrics.json"
    about = (identity, provenance.computed_by, not provenance.format)
    metrics = read_metrics(path, provenance.computed_by) if is_there(path) else None
    lines = _samples(folder, provenance, finished=metrics is not None)
    if metrics is None:
        return Run(name, folder, *about, None, lines)
    if metrics.run_id != name:
        raise ParbenchError(
            f"{folder} holds metrics of run {metrics.run_id} beside the provenance of run {name}: put back the files "
            "that belong together, or run again"
        )
    if metrics.n != len(lines):
        raise ParbenchError(f"{folder} holds {len(lines)} samples and metrics over {metrics.n}: delete the folder and run again")
    return Run(name, folder, *about, metrics, lines)


def _provenance(path: Path) -> Provenance:
    remedy = "move the folder away and run again"
    try:
        provenance = read_provenance(path)
    except json.JSONDecodeError as error:
        raise ParbenchError(f"{path} is damaged ({cause(error)}): {remedy}") from error
    except (ValueError, OSError) as error:
        raise ParbenchError(f"{path} cannot be read by parbench {__version__} ({cause(error)}): {remedy}") from error
    demand(provenance.identity, str(path), _IDENTITY, provenance.computed_by)
    return provenance


def _samples(folder: Path, provenance: Provenance, *, finished: bool) -> Sequence[SampleRecord]:
    if (packed := packed_lines(folder)) is not None:
        return PackedSamples(packed, folder / SAMPLES, provenance.computed_by)
    if (path := samples_path(folder)) is not None:
        return read_samples(path, provenance.computed_by, finished=finished)
    if finished:
        raise ParbenchError(f"{folder} holds no {SAMPLES}: put it back, or delete the folder and run again")
    return []
