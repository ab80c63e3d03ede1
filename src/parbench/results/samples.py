"""Reads ``samples.jsonl``, plain, compressed or packed, with a clear error for a damaged line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload

from parbench.errors import ParbenchError
from parbench.results.record import SampleRecord, absent

if TYPE_CHECKING:
    from parbench.results.packed import PackedLines

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
    return [SampleRecord.parse(line, f"line {number} of {path}", computed_by) for number, line in enumerate(lines, 1)]


class PackedSamples(Sequence[SampleRecord]):
    """The samples of a packed run, parsed when one is asked for: tables need columns only.

    Args:
        lines: The lines of the run.
        path: Its ``samples.jsonl``, for error messages.
        computed_by: The code that wrote it, for error messages.
    """

    def __init__(self, lines: PackedLines, path: Path, computed_by: Sequence[Mapping[str, Any]] = ()) -> None:
        self._lines, self._path, self._by = lines, path, computed_by

    def __len__(self) -> int:
        """The number of samples."""
        return len(self._lines)

    @overload
    def __getitem__(self, at: int) -> SampleRecord: ...

    @overload
    def __getitem__(self, at: slice) -> list[SampleRecord]: ...

    def __getitem__(self, at: int | slice) -> SampleRecord | list[SampleRecord]:
        """One sample, or some of them."""
        places = range(len(self))[at]
        if isinstance(places, int):
            return self._parsed(places, places + 1)[0]
        return [self[place] for place in places]

    def __iter__(self) -> Iterator[SampleRecord]:
        """All samples in order."""
        return iter(self._parsed(0, len(self)))

    def column(self, name: str) -> list[Any]:
        """What :meth:`SampleRecord.get` gives for each sample."""
        return self._lines.column(name, absent(name))

    def _parsed(self, first: int, end: int) -> list[SampleRecord]:
        lines = enumerate(self._lines.lines(first, end), first + 1)
        return [SampleRecord.parse(line, f"line {number} of {self._path}", self._by) for number, line in lines]


def column(samples: Sequence[SampleRecord], name: str) -> list[Any]:
    """The values of a field, or of a column of the data set, of each sample."""
    return samples.column(name) if isinstance(samples, PackedSamples) else [sample.get(name) for sample in samples]


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
