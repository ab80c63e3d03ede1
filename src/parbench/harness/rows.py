"""The rows of a data set: read from the configured source, validated, and joined with their images."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from parbench.errors import ParbenchError
from parbench.harness.checks import check_columns
from parbench.harness.circular import with_whole_numbers
from parbench.harness.local.sources import SOURCES
from parbench.harness.silence import quiet_datasets
from parbench.harness.sources import load_rows
from parbench.harness.submission import with_answer_columns
from parbench.harness.task_file import TaskFile
from parbench.lmms_tasks.by_name import about

_log = logging.getLogger(__name__)

# The column with the OCR tokens of a TextVQA image.
OCR = "ocr_tokens"


@quiet_datasets()
def rows_of(task: TaskFile) -> Any:
    """All rows of a data set, a ``datasets.Dataset`` whose images are decoded when they are accessed.

    Args:
        task: The data set's task, with its settings.

    Raises:
        ParbenchError: The data cannot be read, are empty, or lack a column.
    """
    settings = task.settings
    rows = _where(_read(settings), settings.get("where") or {})
    name, source = settings["name"], settings["path"] or settings["hub"] or "scenes"
    if not len(rows):
        raise ParbenchError(f"data set {name} is empty: {source} holds no row in split {settings['split']}")
    if settings.get("submission"):
        rows = with_answer_columns(settings, rows)
    check_columns({**settings, "columns": [*settings["columns"], *([OCR] if settings.get("ocr") else [])]}, rows, source)
    if settings.get("by_name"):
        _log.info(about(settings))
    if settings.get("by_name") or settings.get("source") == "task":
        rows = task.processed(rows)
    if column := settings.get("circular"):
        rows = with_whole_numbers(rows, column, name)
    if images := settings.get("images_config"):
        return _joined(settings, rows, load_rows(settings, images))
    return rows


def _read(settings: Mapping[str, Any]) -> Any:
    """The rows as they are stored."""
    if settings["hub"] is None:
        from parbench.scenes.dataset import load_scenes
        from parbench.scenes.splits import splits_of

        return load_scenes(splits_of(settings["task"])[settings["split"]], settings["skill"])
    if source := settings.get("source"):
        return SOURCES[source](settings)
    return load_rows(settings, settings["config"])


def _where(rows: Any, wanted: Mapping[str, Any]) -> Any:
    """The rows that have the wanted values; a missing column filters nothing."""
    for column, value in wanted.items():
        if column in rows.column_names:
            rows = rows.select([number for number, found in enumerate(rows[column]) if found == value])
    return rows


def _joined(settings: Mapping[str, Any], rows: Any, images: Any) -> Any:
    """Rows joined with their images, which another configuration of the data set holds under ``image_key``.

    Raises:
        ParbenchError: There is no image for a row.
    """
    from datasets import concatenate_datasets

    key, name, config = settings["image_key"], settings["name"], settings["images_config"]
    if images is None or not {"id", "image"} <= set(images.column_names):
        raise ParbenchError(f"configuration {config} of data set {name} needs the columns id and image")
    place = {image: number for number, image in enumerate(images["id"])}
    absent = next((image for image in rows[key] if image not in place), None)
    if absent is not None:
        raise ParbenchError(f"data set {name} has no image {absent} in configuration {config}")
    chosen = images.select([place[image] for image in rows[key]]).select_columns("image")
    return concatenate_datasets([rows, chosen], axis=1)
