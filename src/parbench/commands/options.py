"""Options of commands and the kinds of their values. Values are checked before slow imports such as torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from parbench.config.composed import check_method
from parbench.config.groups import conf_folder, names
from parbench.errors import ParbenchError, unknown
from parbench.reducers.budget import check_budget

# Stands for a method's own adaptive rule in a list of budgets.
OWN = "own"
# Stands for all methods that compare the frames of a video in a list of methods.
_VIDEO = "video"


@dataclass(frozen=True)
class Kind:
    """The kind of an option's value.

    Attributes:
        name: Its placeholder in the help, such as NUMBER.
        read: Parses the text of an option with a given key; raises ParbenchError if the text is invalid.
        group: The configuration group whose names are the possible values; empty if there is none.
        choices: The possible values; empty if they are not a fixed list.
        endings: For a file, the suffixes that can be written; empty for any.
    """

    name: str
    read: Callable[[str, str], Any]
    group: str = ""
    choices: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Option:
    """An option of a command, written ``name=VALUE`` or ``--name=VALUE``.

    Attributes:
        name: Its name.
        kind: The kind of its value.
        said: What it does, for the help; a sentence without its full stop.
        default: The default as text; empty for none.
        short: A one-letter short form; empty for none.
    """

    name: str
    kind: Kind
    said: str
    default: str = ""
    short: str = ""

    @property
    def is_switch(self) -> bool:
        """Whether its value is true or false."""
        return self.kind is SWITCH

    def read(self, text: str) -> Any:
        """Parse its text. An empty text gives None.

        Raises:
            ParbenchError: The text is not a value of this kind.
        """
        text = unquoted(text)
        return self.kind.read(self.name, text) if text else None


def unquoted(value: str) -> str:
    """Remove the quotes around a value that Hydra's grammar allows, as in ``results_dir='my runs'``."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def as_list(key: str, value: str) -> list[Any]:
    """Parse a list: ``a,b``, ``[a,b]`` or a single value.

    Raises:
        ParbenchError: The value is not a list, or an empty one.
    """
    try:
        found = yaml.safe_load(value if value.startswith("[") else f"[{value}]")
    except yaml.YAMLError as error:
        raise ParbenchError(f"{key}={value} cannot be parsed: write {key}=[a,b]") from error
    if not isinstance(found, list) or not found:
        raise ParbenchError(f"{key}={value} is not a list: write {key}=[a,b]")
    return found


def whole_number(key: str, value: str, least: int = 1) -> int:
    """Parse a whole number.

    Raises:
        ParbenchError: The value is not a whole number, or is less than ``least``.
    """
    if not value.isdecimal() or int(value) < least:
        raise ParbenchError(f"{key}={value} is not a whole number of at least {least}")
    return int(value)


def _numbers(key: str, value: str) -> list[int]:
    return [whole_number(key, str(one)) for one in as_list(key, value)]


def _budgets(key: str, value: str) -> list[Any]:
    found = as_list(key, value)
    for budget in found:
        check_budget(budget, key)
        if budget is None:
            raise ParbenchError(f"{key}={value} is not a budget: write {key}=64, or several as {key}=[192,64]")
    return found


def _budgets_or_own(key: str, value: str) -> list[Any]:
    found = as_list(key, value)
    for budget in found:
        if budget != OWN:
            check_budget(budget, key)
    return [None if budget == OWN else budget for budget in found]


def _counts(key: str, value: str) -> list[int | float | None]:
    return [one if one is None or _is_share(one) else whole_number(key, str(one)) for one in as_list(key, value)]


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1


def _size(key: str, value: str) -> tuple[int, int]:
    width, mark, height = value.partition("x")
    if not (mark and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ParbenchError(f"{key}={value} is no size in pixels: write {key}=WIDTHxHEIGHT, such as {key}=1024x768")
    return int(width), int(height)


def _texts(key: str, value: str) -> list[str]:
    return [str(one) for one in as_list(key, value)]


def _named(group: str) -> Callable[[str, str], list[str]]:
    """A parser for lists of names of a configuration group.

    ``all`` stands for all of them, and among methods ``video`` for those that compare the frames of a video.
    """

    def read(key: str, value: str) -> list[str]:
        found, known = _texts(key, value), names(group)
        if found == ["all"]:
            return known
        if group == "method" and _VIDEO in found:
            # Imports their classes, which takes seconds, so only where it is asked for.
            from parbench.config.classes import methods_for_videos

            of_videos = methods_for_videos()
            found = [one for name in found for one in (of_videos if name == _VIDEO else [name])]
        for name in found:
            if group == "method":
                check_method(name)
            elif name not in known:
                raise unknown(group, name, known)
        return list(dict.fromkeys(found))

    return read


def _switch(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ParbenchError(f"{key}={value} is neither true nor false")
    return value.lower() == "true"


def _path(key: str, value: str) -> Path:
    return Path(value).expanduser()


def _folder(key: str, value: str) -> Path:
    folder = Path(value).expanduser()
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not a folder"
        raise ParbenchError(f"{key}={value} {what}: give the folder that a sweep writes to")
    return folder


def file(*endings: str) -> Kind:
    """The kind of an output file.

    Args:
        endings: The suffixes that can be written, each with its dot.
    """

    def read(key: str, value: str) -> Path:
        path = Path(value).expanduser()
        if path.suffix.lower() not in endings:
            raise ParbenchError(f"{key}={value} has the wrong suffix: use a name that ends in {in_words(endings)}")
        return path

    return Kind("FILE", read, endings=endings)


def one_of(what: str, *choices: str) -> Kind:
    """The kind of an option with a few choices; ``what`` names a choice in error messages."""

    def read(key: str, value: str) -> str:
        if value not in choices:
            raise unknown(what, value, choices)
        return value

    return Kind("|".join(choices), read, choices=choices)


def some_of(what: str, *choices: str) -> Kind:
    """The kind of a list of a few choices; ``what`` names a choice in error messages."""

    def read(key: str, value: str) -> list[str]:
        found = _texts(key, value)
        for one in found:
            if one not in choices:
                raise unknown(what, one, choices)
        return found

    return Kind("LIST", read, choices=choices)


NUMBER = Kind("NUMBER", whole_number)
COUNT = Kind("NUMBER", lambda key, value: whole_number(key, value, 0))
COUNT_OR_NULL = Kind("NUMBER", lambda key, value: None if value == "null" else whole_number(key, value, 0))
NUMBERS = Kind("NUMBERS", _numbers)
TOKENS = Kind("NUMBERS", _counts)
SIZE = Kind("WIDTHxHEIGHT", _size)
BUDGETS = Kind("BUDGETS", _budgets)
BUDGETS_OR_OWN = Kind("BUDGETS", _budgets_or_own)
LIST = Kind("LIST", _texts)
METHODS = Kind("METHODS", _named("method"), group="method")
MODELS = Kind("MODELS", _named("model"), group="model")
# Names are not checked here, since tasks of lmms-eval are data sets too.
DATASETS = Kind("DATASETS", _texts, group="dataset")
METHOD = Kind("METHOD", lambda key, value: _named("method")(key, value)[0], group="method")
SWITCH = Kind("true|false", _switch)
FOLDER = Kind("FOLDER", _folder)
NEW_FOLDER = Kind("FOLDER", _path)
TEXT = Kind("TEXT", lambda key, value: value)


def in_words(words: Sequence[str]) -> str:
    """Join words as ``a, b or c``."""
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def default_results() -> Path:
    """The default folder of runs, from the configuration."""
    return Path(yaml.safe_load((conf_folder() / "config.yaml").read_text(encoding="utf-8"))["results_dir"])


def writable(key: str, path: Path) -> Path:
    """Check that a file can be written, and create its folder.

    Args:
        key: The option that names the file, for the message.
        path: The file. It is not created.

    Returns:
        ``path``.

    Raises:
        ParbenchError: The file cannot be written.
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
        raise ParbenchError(f"{key}={path} cannot be written ({error.strerror}): choose another path") from error
