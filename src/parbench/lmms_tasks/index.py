"""The names of lmms-eval's tasks, groups and tags, and the YAML of each, without importing lmms-eval."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from parbench.cache import cache_root, keep
from parbench.errors import ParbenchError
from parbench.lmms_tasks.code import tasks_folder

# Increased when the content of an entry changes.
_FORMAT = 1
Entry = dict[str, Any]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with lmms-eval's ``!function module.name`` kept as the text ``!function module.name``."""


_Loader.add_constructor("!function", lambda loader, node: f"!function {node.value}")


def read_yaml(path: Path) -> dict[str, Any]:
    """The configuration of a task with its includes; functions are names.

    Args:
        path: The YAML.

    Raises:
        ParbenchError: It cannot be read, or is not a mapping.
    """
    try:
        found = yaml.load(path.read_bytes(), Loader=_Loader)
    except (OSError, yaml.YAMLError) as error:
        raise ParbenchError(f"the task {path} cannot be read ({str(error).splitlines()[0]}): fix it") from error
    if not isinstance(found, dict):
        raise ParbenchError(f"the task {path} is not a mapping of settings: see lmms-eval's task guide")
    included = found.pop("include", None) or []
    whole: dict[str, Any] = {}
    # As in lmms-eval, earlier includes override later ones, and the task overrides all.
    for name in reversed([included] if isinstance(included, str) else included):
        file = Path(name)
        whole |= read_yaml(file if file.is_file() else path.parent / name)
    return whole | found


def entry(name: str) -> Entry | None:
    """The entry of a name: ``kind`` (task, group, tag or class), ``yaml`` (a path in lmms-eval's tasks), ``tasks`` (of a tag).

    None for names that are unknown to lmms-eval.
    """
    if (found := _stored().get(name)) is not None:
        return found
    # Somebody may have added a task since the index was stored; reading every file takes a second, looking for a word does not.
    return _index().get(name) if _is_written(name) else None


def _is_written(name: str) -> bool:
    """Whether a name stands in any YAML of lmms-eval's tasks."""
    return any(name.encode() in path.read_bytes() for path in _yamls(tasks_folder()))


def all_names() -> list[str]:
    """The names of all tasks, groups and tags."""
    return sorted(_stored())


def members(name: str) -> list[str]:
    """The tasks of a group or tag, including nested groups; for a task, the task itself.

    Raises:
        ParbenchError: A group names an unknown task.
    """
    return list(dict.fromkeys(_members(name, ())))


def _members(name: str, above: tuple[str, ...]) -> Iterator[str]:
    found = entry(name)
    if found is None:
        raise ParbenchError(f"lmms-eval's group {above[-1] if above else name} names {name}, which is not a task of lmms-eval")
    if name in above:
        return
    if found["kind"] == "tag":
        parts: list[Any] = found["tasks"]
    elif found["kind"] == "group":
        parts = read_yaml(tasks_folder() / found["yaml"])["task"]
    else:
        yield name
        return
    for part in parts:
        yield from _part(part, (*above, name))


def _part(part: Any, above: tuple[str, ...]) -> Iterator[str]:
    """A part of a group: a name, or an inline group."""
    if isinstance(part, str):
        yield from _members(part, above)
    elif isinstance(part, Mapping) and isinstance(part.get("task"), list):
        for one in part["task"]:
            yield from _part(one, above)
    else:
        raise ParbenchError(
            f"lmms-eval's group {above[-1]} changes settings of its tasks, which is not supported: use its tasks instead"
        )


@lru_cache(maxsize=1)
def _stored() -> dict[str, Entry]:
    """The index of the installed version, cached."""
    version = importlib.metadata.version("lmms-eval")
    file = cache_root() / "tasks" / f"lmms-eval-{version}-{_FORMAT}.json"
    with contextlib.suppress(OSError, ValueError):
        made: dict[str, Entry] = json.loads(file.read_text())
        return made
    found = _index()
    # Without a writable cache, building the index takes two seconds each time.
    keep(file, json.dumps(found))
    return found


@lru_cache(maxsize=1)
def _index() -> dict[str, Entry]:
    """Every YAML of lmms-eval's tasks by its names. As in lmms-eval, later ones override earlier ones."""
    folder = tasks_folder()
    found: dict[str, Entry] = {}
    tags: dict[str, list[str]] = {}
    for path in _yamls(folder):
        try:
            config = read_yaml(path)
        except ParbenchError:
            # Some YAMLs are templates, not tasks.
            continue
        task, place = config.get("task"), str(path.relative_to(folder))
        if isinstance(task, list) and isinstance(config.get("group"), str):
            found[config["group"]] = {"kind": "group", "yaml": place}
        elif isinstance(task, str):
            found[task] = {"kind": "class" if "class" in config else "task", "yaml": place}
            for key in ("tag", "group"):
                named = config.get(key) or []
                for tag in [named] if isinstance(named, str) else named:
                    tags.setdefault(tag, []).append(task)
    return {tag: {"kind": "tag", "tasks": sorted(set(tasks))} for tag, tasks in tags.items()} | found


def _yamls(folder: Path) -> Iterator[Path]:
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(one for one in folders if one not in ("__pycache__", ".ipynb_checkpoints"))
        for name in sorted(files):
            if name.endswith(".yaml"):
                yield Path(top) / name
