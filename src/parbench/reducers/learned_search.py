"""Which weights file a learned method takes on a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.reducers import learned_files as files


def candidates(kind: str, model: str, base: str) -> list[Path]:
    """Existing files with weights of a method: those of the model's name, and those trained for the same weights.

    Args:
        kind: Name of the method in weights files.
        model: Name of the model.
        base: Fingerprint of its checkpoint.
    """
    folders = (files.LOCAL, files.SHIPPED)
    named = [path for folder in folders if (path := folder / files.file_name(model, kind)).is_file()]
    others = [path for folder in folders for path in sorted(folder.glob(files.file_name("*", kind))) if path not in named]
    return named + [path for path in others if _base_of(path) == base]


def how_to_train(method: str, model: str, fields: Mapping[str, Any]) -> str:
    """What to do for weights of a method for a model.

    Args:
        method: Its name.
        model: Name of the model, which may be an adapted one such as ``llava-tiny+random-64``.
        fields: The fields that training needs to be told.
    """
    base, adapted, _ = model.partition("+")
    words = [method, *(f"{name}={value}" for name, value in fields.items()), f"--model {base}"]
    return f"train it with scripts/train_reducer.py {' '.join(words)}" + (" --track adapted" if adapted else "")


def refusal(about: Mapping[str, Any], kind: str, base: str, fields: Mapping[str, Any]) -> str | None:
    """Why a file is none for a method on a model, to follow the name of the file; None if it is one.

    Args:
        about: What the file says of itself.
        kind: Name of the method in weights files.
        base: Fingerprint of the model's checkpoint.
        fields: The method's fields.
    """
    if about["kind"] != kind:
        return f"are of method {about['kind']}, not {kind}"
    if about["base"] != base:
        return "were trained for other weights than those of this model"
    for field, value in about["fields"].items():
        if fields.get(field) != value:
            return f"were trained with method.{field}={value}, not {fields.get(field)}"
    return None


def _base_of(path: Path) -> str | None:
    """The fingerprint of the weights that a file was trained for; None if it cannot be read, as one that nobody named."""
    try:
        return files.read_about(path).get("base")
    except ParbenchError:
        return None
