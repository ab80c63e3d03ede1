"""Your own lmms-eval task, by the path of its YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from parbench.errors import ParbenchError

_NEEDED = ("task", "dataset_path", "doc_to_text")


class _Loader(yaml.SafeLoader):
    """Reads a task's YAML without importing its functions."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def by_path(overrides: Sequence[str]) -> list[str]:
    """Expand ``dataset=PATH.yaml`` or ``dataset.yaml=PATH`` in overrides to name, split and metric of the task.

    Raises:
        ParbenchError: The file is missing, is not YAML, or is not a supported task.
    """
    found: list[str] = []
    for word in overrides:
        key, _, value = word.partition("=")
        path = value.strip("'\"")
        named = key == "dataset" and path.endswith((".yaml", ".yml"))
        if named or (key == "dataset.yaml" and path and path != "null"):
            found = [one for one in found if not one.startswith("dataset=")] + _spelled(path)
        elif key != "dataset" or not any(one.startswith("dataset=task-by-path") for one in found):
            found.append(word)
    return found


def _spelled(path: str) -> list[str]:
    file = Path(path).expanduser().resolve()
    config = read_task(file)
    split = config.get("test_split") or config.get("validation_split")
    metrics = [metric["metric"] for metric in config.get("metric_list") or [] if isinstance(metric, dict) and "metric" in metric]
    values = {"yaml": str(file), "name": config["task"], "task": config["task"], "split": split, "metric": metrics}
    return [
        "dataset=task-by-path",
        *(f"dataset.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()),
    ]


def read_task(file: Path) -> dict[str, Any]:
    """The YAML of a task with its includes; functions are text.

    Raises:
        ParbenchError: It cannot be read, or lacks required keys.
    """
    config = _merged(file)
    missing = [key for key in _NEEDED if not config.get(key)]
    if missing:
        raise ParbenchError(f"{file} is not a task of lmms-eval: it lacks {', '.join(missing)}")
    if not (config.get("test_split") or config.get("validation_split")):
        raise ParbenchError(f"{file} has neither test_split nor validation_split: add one of them")
    if not config.get("metric_list"):
        raise ParbenchError(f"{file} has no metric_list: add the metrics that score its answers")
    if config.get("output_type", "generate_until") != "generate_until":
        raise ParbenchError(f"{file} has output_type {config['output_type']}: only generate_until is supported")
    for key, value in config.items():
        _check_function(file, key, value)
    return config


def _merged(file: Path) -> dict[str, Any]:
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ParbenchError(f"the task {file} cannot be read ({error.strerror}): use the path of its YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParbenchError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"{file} is not a task of lmms-eval: it has no keys")
    included = found.pop("include", [])
    merged: dict[str, Any] = {}
    for name in reversed([included] if isinstance(included, str) else included):
        merged |= _merged(file.parent / name)
    return merged | found


def _check_function(file: Path, key: str, value: Any) -> None:
    """Check that the file of a function exists."""
    for one in value if isinstance(value, list) else [value]:
        for inner in one.values() if isinstance(one, dict) else [one]:
            if isinstance(inner, str) and inner.startswith("!function "):
                module = inner.removeprefix("!function ").rpartition(".")[0]
                place = file.parent / f"{module.replace('.', '/')}.py"
                if not place.is_file():
                    raise ParbenchError(f"{key} of {file} is {inner}, but {place} does not exist")
