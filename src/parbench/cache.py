"""parbench's cache for results that later runs can reuse."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from parbench.files import write_whole


def cache_root() -> Path:
    """``$PARBENCH_CACHE``, else ``parbench`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    named = os.environ.get("PARBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parbench"


def keep(path: Path, content: str | Callable[[Path], object]) -> OSError | None:
    """Write a file of the cache atomically. Several processes may do so at the same time.

    Args:
        path: The file.
        content: The text, or a function that writes the content to the given path.

    Returns:
        The error if the file cannot be written, else None. The cache only saves time, so the error need not be raised.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, shared=True)
    except OSError as error:
        return error
    return None
