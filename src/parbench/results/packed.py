"""Many finished runs in one file: ``runs.parquet`` in a folder that otherwise would hold a folder for each.

Runs of one data set share their questions, and one method gives the same few values again and again. So the file stores each
different value of a field once, as JSON, and for each sample its place among them. It has one row per sample. The small files of
its run are columns too, ``run/metrics.json``. What is read from it is what was packed, value by value.

A packed run has the path that its folder would have, ``results/reference/scenes/08dadaafa43253e4``, and :func:`read_text`,
:func:`is_there` and :func:`packed_lines` read what lies below it. So whatever reads runs need not know how they are stored.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.errors import ParbenchError
from parbench.files import write_whole
from parbench.results.samples import cause

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "runs.parquet"
# Columns that are the same in all rows of a run; no field of samples, nor column of a data set, begins like this.
_OF_RUN = "run/"
_ID = f"{_OF_RUN}id"
# All values of a field in one dictionary and one page, which is what makes the file small.
_WHOLE = 1 << 30


@dataclass(frozen=True)
class PackedRun:
    """A run to pack.

    Attributes:
        id: Its id.
        files: The text of its small files, by name.
        lines: Its samples, as decoded from JSON.
    """

    id: str
    files: Mapping[str, str]
    lines: Sequence[Mapping[str, Any]]


def packed_in(folder: Path) -> tuple[str, ...]:
    """The ids of the runs that are packed in a folder, in order; empty if it has no ``runs.parquet``.

    Raises:
        ParbenchError: The file is damaged, or not parbench's.
    """
    packed = _pack(folder)
    return tuple(packed.spans) if packed else ()


def is_there(path: Path) -> bool:
    """Whether a file of a run exists, on its own or packed."""
    return path.is_file() or _held(path) is not None


def read_text(path: Path) -> str:
    """The text of a small file of a run, on its own or packed.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: It is not text in UTF-8.
    """
    if not path.is_file() and (held := _held(path)) is not None:
        return held
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class PackedLines:
    """The samples of a packed run, decoded from JSON. Equal values of a field are one object in all lines: they are for reading."""

    _pack: _Pack
    _first: int
    _end: int

    def __len__(self) -> int:
        """The number of samples."""
        return self._end - self._first

    def lines(self, first: int = 0, end: int | None = None) -> list[dict[str, Any]]:
        """The samples from ``first`` on, before ``end``."""
        start, stop = self._first + first, self._end if end is None else self._first + end
        lines: list[dict[str, Any]] = [{} for _ in range(start, stop)]
        for name, values in self._pack.values.items():
            for line, place in zip(lines, self._pack.places[name][start:stop].tolist(), strict=True):
                if place >= 0:
                    line[name] = values[place]
        return lines

    def column(self, name: str, missing: Any) -> list[Any]:
        """The values of a field, and ``missing`` for samples without it."""
        if name not in self._pack.values:
            return [missing] * len(self)
        # -1, no value, is the last place.
        values = [*self._pack.values[name], missing]
        return [values[place] for place in self._pack.places[name][self._first : self._end].tolist()]


def packed_lines(folder: Path) -> PackedLines | None:
    """The samples of a packed run; None if the folder is no packed run."""
    packed = None if folder.is_dir() else _pack(folder.parent)
    return packed.samples(folder.name) if packed and folder.name in packed.spans else None


def unpack(folder: Path) -> list[PackedRun]:
    """The runs that are packed in a folder; empty if it has no ``runs.parquet``."""
    packed = _pack(folder)
    return [PackedRun(name, packed.files(name), packed.samples(name).lines()) for name in packed.spans] if packed else []


def pack(runs: Iterable[PackedRun], folder: Path) -> None:
    """Write ``runs.parquet``; the same runs give the same bytes.

    Args:
        runs: Runs with one sample or more, in any order. Of runs with the same id the last one counts.
        folder: An existing folder.
    """
    import pyarrow as pa
    from pyarrow import parquet

    columns: dict[str, _Column] = {}
    rows = 0
    for run in sorted({run.id: run for run in runs}.values(), key=lambda run: run.id):
        for line in run.lines:
            for name, text in (*_texts(run), *((key, json.dumps(value)) for key, value in line.items())):
                columns.setdefault(name, _Column()).put(rows, text)
            rows += 1
    table = pa.table({name: column.filled(rows) for name, column in columns.items()})
    write = partial(
        parquet.write_table,
        table,
        compression="zstd",
        compression_level=22,
        row_group_size=_WHOLE,
        data_page_size=_WHOLE,
        dictionary_pagesize_limit=_WHOLE,
        write_statistics=False,
    )
    write_whole(folder / FILE, write)


def _texts(run: PackedRun) -> list[tuple[str, str]]:
    """The columns that are the same in all rows of a run."""
    return [(_ID, run.id), *((f"{_OF_RUN}{name}", text) for name, text in run.files.items())]


class _Column:
    """Texts, each different one stored once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.rows = array("i")

    def put(self, row: int, text: str) -> None:
        """Set the text of a row; rows before it without one have none."""
        self.rows.extend([-1] * (row - len(self.rows)))
        self.rows.append(self.places.setdefault(text, len(self.places)))

    def filled(self, rows: int) -> pa.DictionaryArray:
        """The column with ``rows`` rows."""
        import numpy as np
        import pyarrow as pa

        self.rows.extend([-1] * (rows - len(self.rows)))
        places = np.frombuffer(self.rows, dtype=np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(places, mask=places < 0), pa.array(list(self.places), pa.string()))


class _Pack:
    """An opened ``runs.parquet``.

    Attributes:
        spans: The first row of each run and the one after its last, by id.
        values: The different values of each field.
        places: The place of each row's value among those of its column; -1 for none.
    """

    def __init__(self, path: Path) -> None:
        import numpy as np
        from pyarrow import parquet

        names = parquet.read_schema(path).names
        if _ID not in names:
            raise ValueError(f"no column {_ID}")
        table = parquet.read_table(path, read_dictionary=names)
        self._texts: dict[str, list[str]] = {}
        self.places: dict[str, Any] = {}
        for name in names:
            column = table[name].combine_chunks()
            self._texts[name] = column.dictionary.to_pylist()
            self.places[name] = column.indices.fill_null(-1).to_numpy()
        self._files = [name for name in names if name.startswith(_OF_RUN) and name != _ID]
        fields = [name for name in names if not name.startswith(_OF_RUN)]
        self.values = {name: [*map(json.loads, self._texts[name])] for name in fields}
        runs = self.places[_ID]
        starts = [0, *(np.flatnonzero(runs[1:] != runs[:-1]) + 1).tolist(), len(runs)]
        ids = [self._texts[_ID][runs[start]] for start in starts[:-1]]
        self.spans: dict[str, tuple[int, int]] = dict(zip(ids, pairwise(starts), strict=True))

    def files(self, run: str) -> dict[str, str]:
        """The small files of a run."""
        row, _ = self.spans[run]
        found = {name: self._texts[name][place] for name in self._files if (place := self.places[name][row]) >= 0}
        return {name.removeprefix(_OF_RUN): text for name, text in found.items()}

    def samples(self, run: str) -> PackedLines:
        """The samples of a run."""
        return PackedLines(self, *self.spans[run])


def _held(path: Path) -> str | None:
    """The text of a file of a packed run; None if it is not packed."""
    packed = None if path.parent.is_dir() else _pack(path.parent.parent)
    return packed.files(path.parent.name).get(path.name) if packed and path.parent.name in packed.spans else None


def _pack(folder: Path) -> _Pack | None:
    path = (folder / FILE).absolute()
    try:
        state = path.stat()
    except OSError:
        return None
    return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _opened(path: Path, _changed: int, _size: int) -> _Pack:
    try:
        return _Pack(path)
    except (ValueError, KeyError, IndexError, AttributeError, OSError) as error:
        raise ParbenchError(f"{path} is damaged or not packed by parbench ({cause(error)}): restore it, or move it away") from error
