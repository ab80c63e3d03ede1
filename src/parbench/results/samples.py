"""Reads ``samples.jsonl``, plain or compressed, with a clear error for a damaged line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from parbench.errors import ParbenchError
from parbench.results.record import SampleRecord

FILE = "samples.jsonl"
_OPENED_BY: dict[str, Callable[..., IO[str]]] = {"": open, ".gz": gzip.open, ".xz": lzma.open}


def samples_path(folder: Path) -> Path | None:
    """The path of a run folder's samples, compressed or not; None if there is no such file."""
    paths = (folder / f"{FILE}{ending}" for ending in _OPENED_BY)
    return next((path for path in paths if path.is_file()), None)


def opened(path: Path) -> IO[str]:
    """A ``samples.jsonl``, compressed or not, opened for reading as text."""
    how: Callable[..., IO[str]] = _OPENED_BY.get(path.suffix, open)
    return how(path, "rt", encoding="utf-8")


def read_samples(path: Path, computed_by: Sequence[Mapping[str, Any]] = (), *, finished: bool = True) -> list[SampleRecord]:
    """The samples of a run.

    Args:
        path: Its ``samples.jsonl``, which may be compressed (``.gz``, ``.xz``).
        computed_by: The code that wrote it, for error messages.
        finished: Whether the run is finished; the incomplete last line of a killed run is skipped.

    Raises:
        ParbenchError: A line is damaged, or of another format.
    """
    lines: list[Any] = []
    try:
        with opened(path) as file:
            lines.extend(json.loads(text) for text in file if finished or text.endswith("\n"))
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        raise ParbenchError(
            f"line {len(lines) + 1} of {path} is damaged ({cause(error)}): delete the run's folder and run again"
        ) from error
    return parsed(lines, path, computed_by)


def parsed(lines: Sequence[Any], path: Path, computed_by: Sequence[Mapping[str, Any]] = ()) -> list[SampleRecord]:
    """The samples of a run from its lines, decoded from JSON; see :func:`read_samples`."""
    return [SampleRecord.parse(line, f"line {number} of {path}", computed_by) for number, line in enumerate(lines, 1)]


def count_samples(path: Path) -> int:
    """The number of samples in a ``samples.jsonl``; 0 if the file does not exist."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def cause(error: Exception) -> str:
    """An error's message in one line."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
