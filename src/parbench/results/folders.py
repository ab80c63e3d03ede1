"""Finds run folders and reads them, with one clear sentence for what is no run, or no longer whole."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from parbench import __version__
from parbench.errors import ParbenchError
from parbench.results.run_identity import FILE, Provenance, parse_provenance

_SAMPLES: dict[str, Callable[..., IO[str]]] = {
    "samples.jsonl": open,
    "samples.jsonl.gz": gzip.open,
    "samples.jsonl.xz": lzma.open,
}
# What this version writes and everything that reads runs relies on.
_IDENTITY = (
    "model", "weights", "dtype", "method.name", "method.class", "dataset.name", "dataset.task", "dataset.metric", "dataset.split",
    "limit", "engine.name", "seed", "versions.torch",
)  # fmt: skip
_METRICS = (
    "run_id", "model", "method", "dataset", "budget", "n", "failures", "unparseable", "accuracy", "chance", "compression",
    "evidence_recall", *(f"tokens_kept.{key}" for key in ("mean", "std", "min", "max")),
    *(f"flops.{part}" for part in ("vision", "projector", "reducer", "llm_prefill", "decode", "total")),
)  # fmt: skip
_LINE = ("id", "image_id", "task", "prediction", "target", "score", "unparseable", "error", "tokens_kept")
# Nobody nests runs deeper, and a link that points up must end somewhere.
_DEPTH = 6


@dataclass(frozen=True)
class Found:
    """What is in the folders.

    Attributes:
        runs: Run folders, in the order of their names.
        ignored: What is neither a run nor holds one.
    """

    runs: tuple[Path, ...]
    ignored: tuple[Path, ...]


@dataclass(frozen=True)
class Run:
    """A run as it is stored.

    Attributes:
        id: Hash of its identity.
        folder: Where it is.
        identity: What tells it from other runs, in today's fields.
        computed_by: Which code on which devices computed it (see ``parbench.provenance.computed_by``).
        old: Whether its folder is of before format 1, whose identity says less.
        metrics: ``metrics.json``; None while the run is not finished.
        lines: The lines of its samples.
    """

    id: str
    folder: Path
    identity: dict[str, Any]
    computed_by: tuple[dict[str, Any], ...]
    old: bool
    metrics: dict[str, Any] | None
    lines: list[dict[str, Any]]


def find(paths: Iterable[Path]) -> Found:
    """The run folders among and in some paths; one that is named twice counts once.

    Raises:
        ParbenchError: A path does not exist or is no folder.
    """
    runs: dict[Path, Path] = {}
    ignored: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise ParbenchError(f"{path} {what}: name a run folder, or a folder of runs such as results/runs")
        inside, foreign = _walk(path, _DEPTH)
        for run in inside:
            runs.setdefault(run.resolve(), run)
        ignored |= dict.fromkeys(foreign)
    return Found(tuple(runs.values()), tuple(ignored))


def _walk(path: Path, depth: int) -> tuple[list[Path], list[Path]]:
    """Run folders at or below a folder, and what lies beside them."""
    if (path / FILE).is_file():
        return [path], []
    try:
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ParbenchError(f"{path} cannot be read ({error.strerror}): make it readable") from error
    runs: list[Path] = []
    foreign: list[Path] = []
    for entry in entries:
        inside, beside = _walk(entry, depth - 1) if entry.is_dir() and depth else ([], [])
        runs += inside
        foreign += beside if inside else [entry]
    return runs, foreign


def is_finished(folder: Path) -> bool:
    """Whether a run folder holds a run that came to its end."""
    return (folder / "metrics.json").is_file()


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Runs by model, whole weights before quantised ones, data set, method and budget, the largest budget first; copies left out."""
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
    """A run folder's content.

    Raises:
        ParbenchError: A file is damaged, lacks something, or belongs to another run.
    """
    provenance = _provenance(folder / FILE)
    identity, name, path = provenance.comparable, provenance.run_id, folder / "metrics.json"
    about = (identity, provenance.computed_by, not provenance.format)
    metrics = _json(path, "delete it and run again; no sample is lost") if path.exists() else None
    lines = _lines(folder, provenance.computed_by, finished=metrics is not None)
    if metrics is None:
        return Run(name, folder, *about, None, lines)
    _demand(path, metrics, _METRICS, provenance.computed_by)
    if metrics["run_id"] != name:
        raise ParbenchError(
            f"{folder} holds metrics of run {metrics['run_id']} beside the provenance of run {name}: put back the files "
            "that belong together, or run again"
        )
    if metrics["n"] != len(lines):
        raise ParbenchError(
            f"{folder} holds {len(lines)} samples and metrics over {metrics['n']}: delete the folder and run again"
        )
    return Run(name, folder, *about, metrics, lines)


def _provenance(path: Path) -> Provenance:
    remedy = "move the folder away and run again"
    found = _json(path, remedy)
    try:
        provenance = parse_provenance(found)
    except ValueError as error:
        raise ParbenchError(f"{path} cannot be read by parbench {__version__} ({error}): {remedy}") from error
    _demand(path, provenance.identity, _IDENTITY, provenance.computed_by)
    return provenance


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ParbenchError(f"{path} is damaged ({_cause(error)}): {remedy}") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{path} is no file of parbench, which writes a JSON object there: {remedy}")
    return found


def _demand(path: Path | str, found: Mapping[str, Any], keys: Sequence[str], by: Sequence[Mapping[str, Any]]) -> None:
    """Refuse what lacks one of these keys, dotted where they are inside another."""
    missing = [key for key in keys if not _has(found, key)]
    if not missing:
        return
    version = by[0].get("parbench") if by else None
    raise ParbenchError(
        f"{path} is of another format (it lacks {', '.join(missing)}; written by parbench {version or '?'}, this is {__version__}): "
        f"read it with that version, or run again"
    )


def _has(found: Mapping[str, Any], key: str) -> bool:
    block, _, inner = key.partition(".")
    if not inner:
        return block in found
    return isinstance(found.get(block), Mapping) and inner in found[block]


def _lines(folder: Path, by: Sequence[Mapping[str, Any]], *, finished: bool) -> list[dict[str, Any]]:
    path = next((folder / name for name in _SAMPLES if (folder / name).is_file()), None)
    if path is None:
        if finished:
            raise ParbenchError(f"{folder} holds no samples.jsonl: put it back, or delete the folder and run again")
        return []
    lines: list[dict[str, Any]] = []
    try:
        with _SAMPLES[path.name](path, "rt", encoding="utf-8") as file:
            for text in file:
                # A killed run may leave half a line, which it takes away when it goes on.
                if finished or text.endswith("\n"):
                    lines.append(json.loads(text))
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        raise ParbenchError(
            f"line {len(lines) + 1} of {path} is damaged ({_cause(error)}): delete the run's folder and run again"
        ) from error
    for number, line in enumerate(lines, 1):
        _demand(f"line {number} of {path}", line if isinstance(line, dict) else {}, _LINE, by)
    return lines


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
