"""The files that a data file names, such as images: they are data too."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

# No file system allows longer names than this.
_LONGEST = 4096


def named_files(file: Path) -> list[Path]:
    """The files that the rows of a data file name in any column, in order; empty if the file cannot be read.

    Args:
        file: JSON Lines, a JSON array, Parquet or Arrow; names are relative to its folder.
    """
    try:
        return _existing(file, _texts(file))
    except (OSError, ValueError):
        # A file that cannot be read is reported when it is loaded.
        return []


def named_beside(file: Path, row: Any) -> list[Path]:
    """The files that one row names in any column; names are relative to the folder of ``file``."""
    return _existing(file, _strings(row))


def _existing(file: Path, texts: Iterable[str]) -> list[Path]:
    found: dict[Path, None] = {}
    for text in texts:
        if text and len(text) < _LONGEST and "\0" not in text:
            path = file_beside(file, text)
            # Not a valid file name.
            with contextlib.suppress(OSError):
                if path.is_file():
                    found[path] = None
    return list(found)


def file_beside(file: Path, name: str) -> Path:
    """The path of a file that a data file names, encoded in UTF-8 whatever the locale."""
    return file.parent / os.fsdecode(name.encode("utf-8", errors="surrogateescape"))


def json_rows(text: str) -> Iterator[Any]:
    """The rows of JSON Lines, or of a single JSON array.

    Raises:
        ValueError: A line is not valid JSON; the message says which.
    """
    if text.lstrip().startswith("["):
        yield from json.loads(text)
        return
    # Not splitlines(), which splits at U+2028 inside a string.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} is no JSON: {error.msg} at column {error.colno}") from error


def _texts(file: Path) -> Iterable[str]:
    """Every text value in a data file's rows that could name a file."""
    if file.suffix in (".json", ".jsonl"):
        for row in json_rows(file.read_text(encoding="utf-8-sig")):
            yield from _strings(row)
    elif file.suffix in (".parquet", ".arrow"):
        yield from _columns(file)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _strings(one)


def _columns(file: Path) -> Iterator[str]:
    """Texts and paths in a table's columns; image bytes are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.suffix == ".parquet":
        schema = pq.ParquetFile(file).schema
        names = [column.path for column in map(schema.column, range(len(schema))) if _is_text(column)]
        for batch in pq.ParquetFile(file).iter_batches(columns=names):
            yield from _strings(batch.to_pylist())
        return
    with pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_stream(source):
            chosen = [name for name, kind in zip(batch.schema.names, batch.schema.types, strict=True) if _names(kind)]
            for name in chosen:
                column = batch.column(name)
                yield from _strings((column.field("path") if pa.types.is_struct(column.type) else column).to_pylist())


def _is_text(column: Any) -> bool:
    return str(column.logical_type) == "String"


def _names(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return "path" in [field.name for field in kind]
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
