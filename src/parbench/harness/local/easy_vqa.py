"""easy-VQA: 5,000 images of 64 x 64 pixels with 48,248 questions, from the package of that name (MIT licence)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError, unknown
from parbench.harness.local.reading import Records
from parbench.harness.local.rows import checked_rows

_SPLITS = ("train", "test")


def easy_vqa_rows(settings: Mapping[str, Any]) -> Any:
    """The rows of a split.

    Raises:
        ParbenchError: The package is not installed, or has no such split.
    """
    if settings["split"] not in _SPLITS:
        raise unknown("dataset.split of easy-vqa", str(settings["split"]), _SPLITS)
    if settings["path"] is not None:
        raise ParbenchError("dataset=easy-vqa is read from the package easy-vqa: leave out dataset.path")
    # Locates the package without importing it.
    package = find_spec("easy_vqa")
    if package is None or not package.submodule_search_locations:
        raise ParbenchError("dataset=easy-vqa needs the package easy-vqa: pip install 'parbench[easy-vqa]'")
    folder = Path(package.submodule_search_locations[0]) / "data" / settings["split"]
    asked = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    rows = [{"question": question, "answer": answer, "image_id": str(image)} for question, answer, image in asked]
    return checked_rows(settings, Records(folder, rows, [[str(folder / "images" / f"{row['image_id']}.png")] for row in rows]))
