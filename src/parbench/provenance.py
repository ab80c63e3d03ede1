"""The code that computes a run: recorded with the run, but not part of its identity."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from parbench import __version__

_PACKAGE = Path(__file__).parent
# Libraries that affect results: their versions are part of a run's identity.
_DECIDING = ("torch", "transformers", "lmms-eval", "pillow", "numpy", "fvcore")
# Whose classes a method may be made of without their sources being its own.
_LIBRARIES = {"parbench", "torch", "transformers", "numpy", "scipy", "sklearn", *sys.stdlib_module_names}


@lru_cache
def versions() -> dict[str, str]:
    """Versions of the libraries that affect results."""
    return {name: importlib.metadata.version(name) for name in _DECIDING}


@lru_cache
def source_digest() -> str:
    """SHA-256 of all sources of parbench."""
    return _digest(sorted(_PACKAGE.rglob("*.py")), _PACKAGE)


def outside_digest(*methods: type) -> str | None:
    """SHA-256 of the sources of a method outside parbench; None for parbench's own methods.

    For a class in a package, all modules of the package are hashed. For a class in a single module, the module and the modules
    of its folder that it imports are hashed.

    Args:
        methods: The reducer's class, and those of its parts.
    """
    kinds = [kind for method in methods for kind in method.__mro__ if kind.__module__.partition(".")[0] not in _LIBRARIES]
    if not kinds:
        return None
    digest = hashlib.sha256()
    for part in sorted({_sources(kind) for kind in kinds}):
        digest.update(part.encode())
    return digest.hexdigest()


def _sources(kind: type) -> str:
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        # Defined in a notebook, or on a command line.
        return inspect.getsource(kind)
    path = Path(file)
    top = kind.__module__.partition(".")[0]
    package = next((parent for parent in path.parents if parent.name == top), None)
    if package is not None and (package != path.parent or "." in kind.__module__ or path.name == "__init__.py"):
        return _digest(sorted(package.rglob("*.py")), package)
    return _digest(sorted(_beside(path)), path.parent)


def _beside(path: Path) -> set[Path]:
    """A module and the modules and packages of its folder that it imports, and so on."""
    found, open_files = {path}, [path]
    while open_files:
        file = open_files.pop()
        for name in _imported(file):
            module, package = path.parent / f"{name}.py", path.parent / name
            fresh = {module} if module.is_file() else set(package.rglob("*.py")) if package.is_dir() else set()
            open_files += sorted(fresh - found)
            found |= fresh
    return found


def _imported(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a Python file imports."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def _digest(files: Iterable[Path], folder: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def code() -> dict[str, Any]:
    """The code that this process runs; git and the sources are read once per process.

    Returns:
        ``parbench`` (version), ``commit`` (None if parbench neither is a checkout nor was installed from one), ``dirty`` (whether
        its sources differ from that commit; None if unknown), ``source`` (digest).
    """
    commit, dirty = _commit()
    return {"parbench": __version__, "commit": commit, "dirty": dirty, "source": source_digest()}


def computed_by(device: str) -> dict[str, Any]:
    """The record of the code and device that compute a run: the result of :func:`code`, and ``device``.

    Args:
        device: Name of the device.
    """
    return {**code(), "device": device}


@lru_cache
def _commit() -> tuple[str | None, bool | None]:
    """Commit of the checkout that parbench lies in, or of the one that it was installed from."""
    try:
        # A virtual environment may lie in a checkout of something else.
        _git("ls-files", "--error-unmatch", "__init__.py")
        return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        origin = importlib.metadata.distribution("parbench").read_text("direct_url.json")
        return json.loads(origin or "{}")["vcs_info"]["commit_id"], None
    except (importlib.metadata.PackageNotFoundError, KeyError, ValueError):
        return None, None


def _git(*words: str) -> str:
    ended = subprocess.run(["git", *words], cwd=_PACKAGE, capture_output=True, text=True, check=True, timeout=10)
    return ended.stdout.strip()
