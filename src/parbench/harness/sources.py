"""Locates a benchmark's rows: a local file or folder in the hub's layout, or the hub itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from parbench.errors import ParbenchError
from parbench.harness.hub_data import load, resolve
from parbench.harness.named import named_files
from parbench.harness.silence import quiet_datasets

_FORMATS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".arrow": "arrow"}


def local_files(path: Path, name: str | None, split: str) -> list[Path]:
    """The data files of a split in a folder laid out as on the hub (``<configuration>/<split>-*.parquet``), or the file itself.

    Raises:
        ParbenchError: There are none; the message lists what is there.
    """
    if path.is_file():
        return [path]
    found = [file for file in visible_files(path) if file.suffix in _FORMATS]
    inside = [file for file in found if name and name in file.relative_to(path).parts[:-1]]
    named = inside or found
    files = [file for file in named if file.stem == split or file.stem.startswith((f"{split}-", f"{split}."))]
    if not files:
        there = ", ".join(str(file.relative_to(path)) for file in found[:5]) or "no data file at all"
        where = f" of configuration {name}" if name else ""
        raise ParbenchError(
            f"dataset.path={path} holds no file of split {split}{where} ({there}): name the files {split}-*.parquet, {split}.jsonl "
            "or set dataset.split"
        )
    if len(kinds := sorted({file.suffix for file in files})) > 1:
        raise ParbenchError(
            f"dataset.path={path} holds split {split} in several formats ({', '.join(kinds)}), which would count twice: give one "
            "file as dataset.path"
        )
    return files


def visible_files(folder: Path) -> list[Path]:
    """Files in and below a folder, sorted, without the hidden files of editors, notebooks and archivers."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith(".") or part == "__MACOSX" for part in file.relative_to(folder).parts)
    )


def refuse_ignored(dataset: Mapping[str, Any]) -> None:
    """Refuse settings that a data set would ignore, so that its results are not taken for those of other data.

    Args:
        dataset: A ``conf/dataset`` mapping.

    Raises:
        ParbenchError: Such a setting is given.
    """
    name, generated = dataset["name"], dataset["hub"] is None
    for key in ("path", "config", "revision"):
        if generated and dataset.get(key) is not None:
            raise ParbenchError(
                f"dataset.{key}={dataset[key]} means nothing for {name}, which is generated: for data of your own write "
                "dataset=local dataset.path=FILE"
            )
    if not generated and dataset.get("skill") is not None:
        raise ParbenchError(f"dataset.skill={dataset['skill']} means nothing for {name}: only scenes has skills")


def is_saved(path: Path) -> bool:
    """Whether a folder was written by ``Dataset.save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def data_fingerprint(dataset: Mapping[str, Any]) -> str:
    """The identity of a data set's content: SHA-256 over local files, or the hub's name and commit.

    Raises:
        ParbenchError: ``dataset.path`` does not exist or lacks the split, or the hub's data cannot be found.
    """
    path = dataset.get("path")
    if path is None:
        some = f"/{dataset['data_files']}" if dataset.get("data_files") else ""
        return f"{dataset['hub']}@{hub_commit(dataset)}/{dataset.get('config')}/{dataset['split']}{some}"
    folder = _existing(path)
    names = [dataset.get("config"), dataset.get("images_config")]
    digest = hashlib.sha256()
    if folder.is_dir() and is_saved(folder):
        files = visible_files(folder)
    else:
        files = sorted({file for name in dict.fromkeys(names) for file in local_files(folder, name, dataset["split"])})
    named = dict.fromkeys(image for file in files for image in named_files(file))
    for file in [*files, *named]:
        digest.update(file.name.encode(errors="surrogateescape"))
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def check_cache() -> None:
    """Check that the cache folder of Hugging Face's datasets can be written.

    Raises:
        ParbenchError: It cannot be written.
    """
    import os

    import datasets

    folder = Path(datasets.config.HF_DATASETS_CACHE)
    reason = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
    if reason or not os.access(folder, os.W_OK | os.X_OK):
        raise ParbenchError(
            f"the folder {folder}, in which Hugging Face's datasets keeps what it reads, cannot be written "
            f"({reason or 'Permission denied'}): set HF_HOME to a folder that can"
        )


# Splits to calibrate on, in order of preference.
_HELD_OUT = ("validation", "val", "dev", "train")


def splits_at_hand(dataset: Mapping[str, Any], rows: Callable[[], Any]) -> list[str]:
    """Other splits of a data set that are on this machine, so that nothing has to be downloaded for them.

    Args:
        dataset: A ``conf/dataset`` mapping.
        rows: Loads the rows of the configured split.
    """
    own, path = dataset["split"], dataset.get("path")
    others = [split for split in _HELD_OUT if split != own]
    if path is None:
        return [split for split in others if _is_prepared(rows(), own, split)]
    folder = _existing(path)
    if not folder.is_dir():
        return []
    if is_saved(folder):
        listed = folder / "dataset_dict.json"
        known = json.loads(listed.read_text())["splits"] if listed.is_file() else []
        return [split for split in others if split in known]
    return [split for split in others if _has_files(folder, dataset.get("config"), split)]


def _has_files(folder: Path, name: str | None, split: str) -> bool:
    try:
        return bool(local_files(folder, name, split))
    except ParbenchError:
        return False


def _is_prepared(rows: Any, own: str, other: str) -> bool:
    """Whether ``datasets`` prepared another split together with the split of these rows."""
    for file in rows.cache_files[:1]:
        path = Path(file["filename"])
        # <name>-<split>.arrow, or <name>-<split>-00000-of-00002.arrow if there are several files.
        if f"-{own}" in path.stem:
            return bool([*path.parent.glob(f"*-{other}.arrow"), *path.parent.glob(f"*-{other}-*.arrow")])
    return False


@quiet_datasets()
def load_rows(dataset: Mapping[str, Any], config: str | None) -> Any:
    """The rows of ``dataset.split`` as a ``datasets.Dataset``, with images as image features.

    Args:
        dataset: A ``conf/dataset`` mapping: path (local, or None), hub, revision, split.
        config: Name of the hub's configuration.

    Raises:
        ParbenchError: The rows cannot be found or read.
    """
    import datasets
    import pyarrow.parquet as pq

    split, path = dataset["split"], dataset.get("path")
    if path is None:
        return _from_hub(dataset, config)
    folder = _existing(path)
    try:
        if folder.is_dir() and is_saved(folder):
            loaded = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.DatasetDict):
                if split not in loaded:
                    raise ParbenchError(f"dataset.path={path} has no split {split}: it has {', '.join(loaded)}")
                loaded = loaded[split]
            return loaded
        files = local_files(folder, config, split)
        check_cache()
        if all(file.suffix == ".parquet" and pq.ParquetFile(file).metadata.num_rows == 0 for file in files):
            raise ParbenchError(f"data set {dataset['name']} is empty: {path} holds no row in split {split}")
        rows = datasets.load_dataset(_FORMATS[files[0].suffix], data_files=[str(file) for file in files], split="train")
    except (datasets.exceptions.DatasetGenerationError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ParbenchError(f"the data in {path} cannot be read ({cause}): expected parquet, arrow or JSON lines") from error
    return _with_images(rows, files[0].parent)


def _existing(path: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.exists():
        raise ParbenchError(
            f"dataset.path={path} does not exist: give a folder or file in the hub's schema, or leave it out for the hub"
        )
    return folder.resolve()


def _with_images(rows: Any, folder: Path) -> Any:
    """Rows with columns of image bytes or image file names cast to image features."""
    from datasets import Image, List, Value

    if "image" not in rows.features or isinstance(rows.features["image"], Image):
        return rows
    feature = rows.features["image"]
    if isinstance(feature, Value) and feature.dtype in ("string", "large_string"):
        names = [name and str(folder / name) for name in rows["image"]]
        missing = next((name for name in names if name and not Path(name).is_file()), None)
        if missing:
            raise ParbenchError(
                f"the image file {missing} is named in the data and does not exist: put it there or mend the column image"
            )
        return rows.remove_columns("image").add_column("image", names).cast_column("image", Image())
    if isinstance(feature, List) and isinstance(feature.feature, dict) and "bytes" in feature.feature:
        return rows.cast_column("image", List(Image()))
    return rows.cast_column("image", Image()) if isinstance(feature, dict) and "bytes" in feature else rows


def hub_commit(dataset: Mapping[str, Any]) -> str | None:
    """The hub commit that a data set is read at; None for local files.

    Raises:
        ParbenchError: The data cannot be found, or no repository of the hub is configured.
    """
    if dataset.get("path") is not None or dataset["hub"] is None:
        return None
    if dataset["hub"].count("/") != 1:
        named = shorten(str(dataset.get("data_files") or dataset["hub"]), 120)
        raise ParbenchError(
            f"lmms-eval's task {dataset['task']} reads files that are no data set of the hub ({named}): download them and give "
            "them as dataset.path"
        )
    return resolve(dataset["hub"], dataset.get("revision"), dataset.get("config"))


def _from_hub(dataset: Mapping[str, Any], config: str | None) -> Any:
    commit = hub_commit(dataset)
    return load(dataset["hub"], config, dataset["split"], str(commit), dataset.get("data_files"))
