"""The rows of a user's own lmms-eval task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.lmms_tasks.by_path import read_task


def own_rows(settings: Mapping[str, Any]) -> Any:
    """The rows of a user's own task, from ``dataset.path`` or from the place that the task's YAML names.

    Raises:
        ParbenchError: The rows cannot be found or read.
    """
    from parbench.harness.sources import load_rows

    file = Path(settings["yaml"])
    config = read_task(file)
    if settings["path"]:
        return load_rows(settings, config.get("dataset_name"))
    return _stored(file, config, settings["split"])


def _stored(file: Path, config: Mapping[str, Any], split: str) -> Any:
    """The rows from the place that the task's YAML names."""
    import datasets

    from parbench.harness.sources import check_cache

    check_cache()
    given = {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "token"}
    if "data_files" in given:
        given["data_files"] = _absolute(given["data_files"], file.parent)
    try:
        return datasets.load_dataset(config["dataset_path"], config.get("dataset_name"), split=split, **given)
    except Exception as error:
        cause = error.__cause__ or error
        raise ParbenchError(
            f"the data of {file} (dataset_path: {config['dataset_path']}) cannot be had ({type(cause).__name__}: "
            f"{str(cause).splitlines()[0] if str(cause) else 'no more is said'}): mend the task, or give them as dataset.path"
        ) from error


def _absolute(files: Any, folder: Path) -> Any:
    """The paths of data files, which the YAML gives relative to its folder."""
    if isinstance(files, dict):
        return {key: _absolute(value, folder) for key, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder) for value in files]
    return files if "://" in files else str(folder / files)
