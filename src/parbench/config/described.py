"""One-line descriptions of the configuration's options, read from their YAML files and the methods' source files."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from parbench.config.groups import names, option_file

# The site of a method, by the group of its plot style.
_SITES = {"before": "before the LLM", "tower": "in the tower", "inside": "in the LLM", "control": "control"}
# The same for methods without a style, by their base class.
_BASES = {
    "PixelReducer": "before",
    "TokenReducer": "before",
    "TowerReducer": "tower",
    "LayerReducer": "inside",
    "MaskReducer": "inside",
    "FeedForwardReducer": "inside",
    "KeyReducer": "inside",
}


@dataclass(frozen=True)
class Entry:
    """The description of an option.

    Attributes:
        name: Its name.
        said: Its description; empty if its file has none.
        site: The site of a method; empty for anything else.
    """

    name: str
    said: str
    site: str = ""

    def to_json(self) -> dict[str, str]:
        """All fields, for scripts."""
        return {key: value for key, value in asdict(self).items() if value or key != "site"}


def entries(group: str) -> list[Entry]:
    """The options of a group, by name."""
    return [_entry(group, name) for name in names(group)]


def skills() -> list[Entry]:
    """The skills that questions of ``scenes`` test, each with its data set."""
    found = [one for one in entries("dataset") if one.name.startswith("scenes_")]
    return [Entry(one.name.removeprefix("scenes_"), f"{one.said} dataset={one.name}") for one in found]


def _entry(group: str, name: str) -> Entry:
    file = option_file(group, name)
    text = file.read_text(encoding="utf-8") if file else ""
    said = _first_comment(text)
    if group != "method":
        return Entry(name, said)
    try:
        settings: Any = yaml.safe_load(text)
        target, style = str(settings["_target_"]), settings.get("style") or {}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return Entry(name, "its YAML names no class in _target_")
    kind = _class(target)
    described = _sentence(ast.get_docstring(kind) or "") if kind else ""
    return Entry(name, described or said, _SITES.get(str(style.get("group"))) or _site(kind))


def _first_comment(text: str) -> str:
    """The first sentence of the first comment, which may span lines."""
    found = re.search(r"(?m)^# ?(?!@)(.+(?:\n# .+)*)", text)
    return _sentence(found.group(1).replace("\n# ", " ")) if found else ""


def _sentence(text: str) -> str:
    """The first sentence of a text in one line."""
    plain = " ".join(text.split()).replace("``", "")
    return re.split(r"(?<=\.) ", plain)[0]


def _class(target: str) -> ast.ClassDef | None:
    """A class as it is written, without importing it; None if its source cannot be found."""
    module, _, name = target.rpartition(".")
    try:
        found = importlib.util.find_spec(module)
        source = Path(found.origin).read_text(encoding="utf-8") if found and found.origin else ""
        tree = ast.parse(source)
    except (ImportError, ValueError, OSError, SyntaxError, AttributeError):
        return None
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _site(kind: ast.ClassDef | None) -> str:
    """The site of a class, from its base class or from ``control = True``; empty if neither says it."""
    if kind is None:
        return ""
    if any(ast.unparse(node).replace(": ClassVar[bool]", "") == "control = True" for node in kind.body):
        return _SITES["control"]
    bases = [ast.unparse(base).rpartition(".")[2] for base in kind.bases]
    return next((_SITES[_BASES[base]] for base in bases if base in _BASES), "")
