"""Reads the records of a user's own data: text as Python values, images as paths or as image features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.harness.named import file_beside, json_rows
from parbench.harness.sources import is_saved, load_rows, local_files, visible_files

_TEXT = (".jsonl", ".json", ".csv", ".tsv")
_TABLES = (".parquet", ".arrow")
# Names of the column and the metadata file in Hugging Face's image folders.
_FILE_NAME, _METADATA = "file_name", "metadata"


@dataclass(frozen=True)
class Records:
    """The content of a data file.

    Attributes:
        source: The file or folder, for error messages.
        rows: Each row's columns without images.
        images: For each row the paths of its images; or a ``datasets.Dataset`` with the single column ``image``.
        videos: For each row the paths of its videos.
    """

    source: Path
    rows: list[dict[str, Any]]
    images: Any
    videos: Sequence[list[str]] = ()


def read_records(settings: Mapping[str, Any]) -> Records:
    """Read ``dataset.path``.

    Args:
        settings: The ``conf/dataset`` mapping: path, split (of a folder), fields.

    Raises:
        ParbenchError: The file does not exist, has an unknown format, is damaged, or lacks a column.
    """
    if settings["path"] is None:
        raise ParbenchError(
            "dataset=local needs dataset.path=FILE: JSON lines, CSV, parquet, or a folder of Hugging Face's datasets"
        )
    path = Path(settings["path"]).expanduser().resolve()
    if not path.exists():
        raise ParbenchError(f"dataset.path={settings['path']} does not exist: give a data file, or a folder of one")
    if path.is_file() and settings["split"] != "test":
        raise ParbenchError(
            f"dataset.split={settings['split']} means nothing for the one file {path.name}: leave it out, or give the folder"
        )
    fields = dict(settings["fields"])
    file = path
    if path.is_dir() and not is_saved(path):
        file = _in_folder(path, settings["split"])
    if file.stem == _METADATA and fields["image"] == "image":
        fields["image"] = _FILE_NAME
    if file.suffix in _TEXT:
        rows = _text_rows(file, fields)
        images = [_named(file, number, row.pop(fields["image"], None)) for number, row in enumerate(rows)]
        return Records(file, rows, images, _videos(file, rows, fields))
    if file.is_dir() or file.suffix in _TABLES:
        return _table(file, settings, fields)
    raise ParbenchError(
        f"dataset.path={settings['path']} is of no format that is known: give JSON lines (.jsonl, .json), CSV (.csv, .tsv), "
        "parquet or arrow"
    )


def _in_folder(folder: Path, split: str) -> Path:
    """The data file of a split in a folder: an image folder's metadata file, else the file named after the split."""
    for place in (folder / split, folder):
        files = visible_files(place) if place.is_dir() else []
        found = [file for file in files if file.stem == _METADATA and file.parent == place]
        if found:
            return found[0]
    named = [file for file in visible_files(folder) if file.stem == split and file.suffix in _TEXT]
    if len(named) > 1:
        raise ParbenchError(
            f"dataset.path={folder} holds split {split} several times ({', '.join(file.name for file in named)}): give one of "
            f"the files"
        )
    if named:
        return named[0]
    files = local_files(folder, None, split)
    return files[0] if len(files) == 1 else folder


def _text_rows(file: Path, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
        rows = _csv_rows(file, text, fields) if file.suffix in (".csv", ".tsv") else list(json_rows(text))
    except UnicodeDecodeError as error:
        raise ParbenchError(f"{file} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    except ValueError as error:
        raise ParbenchError(f"{file} cannot be read: {error}") from error
    wrong = next((number for number, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise ParbenchError(f"row {wrong} of {file} is not an object: write one JSON object a row, such as {{'question': ...}}")
    if not rows:
        raise ParbenchError(f"{file} holds no row: write one JSON object a line, or a header and rows")
    return rows


def _csv_rows(file: Path, text: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if file.suffix == ".tsv" else ",", strict=True)
    try:
        header = list(reader.fieldnames or ())
        if header and not set(header) & set(fields.values()):
            raise ParbenchError(
                f"{file} has no header: its first line, {', '.join(header)[:80]!r}, names none of the columns "
                f"{', '.join(dict.fromkeys(fields.values()))}"
            )
        rows = []
        for number, row in enumerate(reader):
            if None in row or None in row.values():
                raise ParbenchError(f"row {number} of {file} has other than {len(header)} columns: quote texts with commas")
            rows.append({name: _cell(value) for name, value in row.items()})
        return rows
    except csv.Error as error:
        raise ParbenchError(f"{file} cannot be read (line {reader.line_num}: {error})") from error


def _cell(value: str) -> Any:
    """The value of a CSV cell: a list if it is a JSON list, None if it is empty, else the text."""
    if value.startswith("[") and value.endswith("]"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value or None


def _videos(file: Path, rows: Sequence[dict[str, Any]], fields: Mapping[str, str]) -> list[list[str]]:
    """The paths of each row's videos, which are taken out of the rows."""
    column = fields.get("video", "video")
    return [_named(file, number, row.pop(column, None), "video") for number, row in enumerate(rows)]


def _named(file: Path, number: int, value: Any, what: str = "image") -> list[str]:
    """The paths of a row's images or videos.

    Raises:
        ParbenchError: A path does not exist, or is not text.
    """
    found = []
    for name in value if isinstance(value, list) else [] if value is None else [value]:
        if not isinstance(name, str):
            raise ParbenchError(
                f"row {number} of {file} has as its {what} {str(name)[:60]}: write a path, relative to the file, or a list of paths"
            )
        path = file_beside(file, name)
        if not path.is_file():
            raise ParbenchError(
                f"row {number} of {file} names the {what} {name}, and {path} does not exist: paths are relative to the data file"
            )
        found.append(str(path))
    return found


def _table(file: Path, settings: Mapping[str, Any], fields: Mapping[str, str]) -> Records:
    rows = load_rows({**settings, "path": str(file)}, None)
    column = fields["image"]
    if column not in rows.column_names:
        plain = rows.to_list()
        return Records(file, plain, [[] for _ in plain], _videos(file, plain, fields))
    images = rows.select_columns(column)
    if column != "image":
        images = images.rename_column(column, "image")
    plain = rows.remove_columns(column).to_list()
    videos = _videos(file, plain, fields)
    feature = rows.features[column]
    if _of_text(feature):
        names: Sequence[Any] = images["image"]
        return Records(file, plain, [_named(file, number, value) for number, value in enumerate(names)], videos)
    return Records(file, plain, _as_images(images, file), videos)


def _of_text(feature: Any) -> bool:
    inner = getattr(feature, "feature", feature)
    return getattr(inner, "dtype", None) in ("string", "large_string")


def _as_images(images: Any, file: Path) -> Any:
    """A column of bytes, or of structs of bytes and path, cast to image features."""
    from datasets import Image, List
    from datasets.exceptions import DatasetsError

    feature = images.features["image"]
    if isinstance(feature, Image) or isinstance(getattr(feature, "feature", None), Image):
        return images
    try:
        return images.cast_column("image", List(Image()) if isinstance(feature, List) else Image())
    except (DatasetsError, TypeError, ValueError, NotImplementedError) as error:
        raise ParbenchError(
            f"the images in {file} are stored as {feature}: store paths, bytes, or Hugging Face's image features"
        ) from error
