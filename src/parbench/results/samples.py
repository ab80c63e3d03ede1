"""Reads ``samples.jsonl``, plain or compressed, with one clear sentence for a line that is damaged."""

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
    """A run folder's samples, compressed or not; None where there are none."""
    paths = (folder / f"{FILE}{ending}" for ending in _OPENED_BY)
    return next((path for path in paths if path.is_file()), None)


def read_samples(path: Path, computed_by: Sequence[Mapping[str, Any]] = (), *, finished: bool = True) -> list[SampleRecord]:
    """The samples of a run.

    Args:
        path: Its ``samples.jsonl``, which may be compressed (``.gz``, ``.xz``).
        computed_by: Who wrote it, for messages.
        finished: Whether the run is; a killed one may leave half a line at the end, which is left out.

    Raises:
        ParbenchError: A line is damaged, or of another format.
    """
    lines: list[Any] = []
    opened = _OPENED_BY.get(path.suffix, open)
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            lines.extend(json.loads(text) for text in file if finished or text.endswith("\n"))
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:
        raise ParbenchError(
            f"line {len(lines) + 1} of {path} is damaged ({cause(error)}): delete the run's folder and run again"
        ) from error
    return [SampleRecord.parse(line, f"line {number} of {path}", computed_by) for number, line in enumerate(lines, 1)]


def count_samples(path: Path) -> int:
    """How many samples are in a ``samples.jsonl``; none where it is not there."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except FileNotFoundError:
        return 0


def cause(error: Exception) -> str:
    """What an error says in one line."""
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
