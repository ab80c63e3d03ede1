"""A command's own options among its Hydra overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from parbench.config import conf_folder
from parbench.errors import ParbenchError


def split_options(words: list[str], defaults: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The command's own ``key=value`` words, with defaults, and the words that are left for Hydra."""
    options, rest = dict(defaults), []
    for word in words:
        key, _, value = word.partition("=")
        if key in defaults:
            options[key] = unquoted(value)
        else:
            rest.append(word)
    return options, rest


def unquoted(value: str) -> str:
    """A value without the quotes around it that Hydra's grammar takes, as in ``results_dir='my runs'``."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def as_list(key: str, value: str) -> list[Any]:
    """``a,b``, ``[a,b]`` or one value.

    Raises:
        ParbenchError: It is no list, or an empty one.
    """
    try:
        found = yaml.safe_load(value if value.startswith("[") else f"[{value}]")
    except yaml.YAMLError as error:
        raise ParbenchError(f"{key}={value} cannot be parsed: write {key}=[a,b]") from error
    if not isinstance(found, list) or not found:
        raise ParbenchError(f"{key}={value} is no list: write {key}=[a,b]")
    return found


def as_switch(key: str, value: str) -> bool:
    """``true`` or ``false``; false where nothing is given.

    Raises:
        ParbenchError: It is something else.
    """
    if value.lower() not in ("", "true", "false"):
        raise ParbenchError(f"{key}={value} is neither true nor false")
    return value.lower() == "true"


def whole_number(key: str, value: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        ParbenchError: It is none, or less than ``least``.
    """
    if not value.isdecimal() or int(value) < least:
        raise ParbenchError(f"{key}={value} is no number from {least} on")
    return int(value)


def writable(key: str, path: Path) -> Path:
    """A file that can be written; its folder is made.

    Raises:
        ParbenchError: It cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("ab"):
            pass
        if new:
            path.unlink()
        return path
    except OSError as error:
        raise ParbenchError(f"{key}={path} cannot be written ({error.strerror}): choose another place") from error


def results_dir(value: str) -> Path:
    """The folder of runs: what was given, else what the configuration says.

    Raises:
        ParbenchError: There is none.
    """
    folder = Path(value or yaml.safe_load((conf_folder() / "config.yaml").read_text(encoding="utf-8"))["results_dir"])
    if not folder.is_dir():
        raise ParbenchError(f"results_dir={folder} is no folder: give the one that a sweep writes to")
    return folder
