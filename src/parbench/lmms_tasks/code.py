"""Static analysis of an lmms-eval task: the code that its functions can reach."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass
class Module:
    """Names at the top of a Python file.

    Attributes:
        path: The file.
        parts: The definition or assignment of each name.
        imported: The dotted name of each imported name.
        needed: Packages that importing the file requires.
    """

    path: Path
    parts: dict[str, list[ast.AST]] = field(default_factory=dict)
    imported: dict[str, str] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Reach:
    """The code that functions can reach.

    Attributes:
        nodes: Syntax trees of all code that may run.
        modules: Dotted names of imports from outside lmms-eval's tasks.
    """

    nodes: list[ast.AST]
    modules: set[str]

    def words(self) -> Iterator[str]:
        """All strings in the code, except docstrings, and the names of attributes."""
        for top in self.nodes:
            said = {id(text) for text in map(_documentation, ast.walk(top)) if text is not None}
            for node in ast.walk(top):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
                    yield node.value
                elif isinstance(node, ast.Attribute):
                    yield node.attr


def reach(functions: Iterable[tuple[Path, str]]) -> Reach:
    """The code that functions can reach: themselves, and the functions, classes and variables of lmms-eval's tasks that they name.

    Args:
        functions: Pairs of a file and a name in it.
    """
    nodes: list[ast.AST] = []
    outside: set[str] = set()
    seen: set[tuple[Path, str]] = set()
    waiting = list(functions)
    while waiting:
        place = path, name = waiting.pop()
        if place in seen or not path.is_file():
            continue
        seen.add(place)
        module = read(path)
        if dotted := module.imported.get(name):
            waiting += _followed(dotted, path, outside)
        for node in module.parts.get(name, []):
            nodes.append(node)
            for named in _names(node):
                waiting.append((path, named))
            for dotted in _local_imports(node):
                waiting += _followed(dotted, path, outside)
    return Reach(nodes, outside)


def missing_packages(files: Iterable[Path]) -> list[str]:
    """Packages that are not installed but needed by these files, or by files of lmms-eval that they import."""
    seen: set[Path] = set()
    absent: set[str] = set()
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for dotted in read(path).needed:
            if (file := file_of(dotted, path)) is not None:
                waiting.append(file)
            elif dotted.split(".")[0] not in ("lmms_eval", "__future__") and not _installed(dotted.split(".")[0]):
                absent.add(dotted.split(".")[0])
    return sorted(absent)


@cache
def read(path: Path) -> Module:
    """The names at the top of a Python file."""
    module = Module(path)
    waiting: list[tuple[ast.stmt, bool]] = [(node, True) for node in ast.parse(path.read_bytes()).body]
    while waiting:
        node, needed = waiting.pop()
        if isinstance(node, Definition):
            module.parts.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for one in ast.walk(target):
                    if isinstance(one, ast.Name):
                        module.parts.setdefault(one.id, []).append(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias, dotted in _imports(node):
                module.imported[alias] = dotted
                if needed:
                    module.needed.add(dotted)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.For):
            inside = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]
            inside += [one for handler in getattr(node, "handlers", []) for one in handler.body]
            waiting += [(one, needed and isinstance(node, ast.With)) for one in inside]
    return module


def _names(node: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name))


def _local_imports(node: ast.AST) -> Iterator[str]:
    for one in ast.walk(node):
        if isinstance(one, ast.Import | ast.ImportFrom):
            for _, dotted in _imports(one):
                yield dotted


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """The names that an import defines, each with its dotted name; relative ones begin with dots."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield (one.asname, one.name) if one.asname else (one.name.split(".")[0], one.name)
    else:
        for one in node.names:
            yield one.asname or one.name, f"{'.' * node.level}{node.module or ''}.{one.name}"


def _followed(dotted: str, path: Path, outside: set[str]) -> list[tuple[Path, str]]:
    """The definition of an imported name in lmms-eval's tasks; else the name is added to ``outside``."""
    module, _, name = dotted.rpartition(".")
    if (file := file_of(module, path)) is not None:
        return [(file, name)]
    if (file := file_of(dotted, path)) is not None:
        # A whole module: any part of it may be used.
        return [(file, part) for part in read(file).parts]
    outside.add(dotted)
    return []


def file_of(dotted: str, path: Path) -> Path | None:
    """The file of a module in lmms-eval's tasks or in the folder of ``path``; None for others."""
    level = len(dotted) - len(dotted.lstrip("."))
    parts = [part for part in dotted.split(".") if part]
    if level:
        folder = path.parents[level - 1]
    elif parts[:2] == ["lmms_eval", "tasks"]:
        folder, parts = tasks_folder(), parts[2:]
    else:
        return None
    whole = folder.joinpath(*parts)
    for file in (whole.with_suffix(".py"), whole / "__init__.py"):
        if parts and file.is_file():
            return file
    return None


@cache
def tasks_folder() -> Path:
    """The folder of lmms-eval's tasks, determined without importing lmms-eval, which takes seconds."""
    from parbench.errors import ParbenchError

    package = find_spec("lmms_eval")
    if package is None or not package.submodule_search_locations:
        raise ParbenchError("lmms-eval is not installed: run make setup")
    return Path(package.submodule_search_locations[0]) / "tasks"


@cache
def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _documentation(node: ast.AST) -> ast.Constant | None:
    """The docstring of a function or class."""
    body = getattr(node, "body", None)
    first = body[0] if isinstance(body, list) and body else None
    return first.value if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) else None
