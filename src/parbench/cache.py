"""parbench's own cache: what is made once and serves every later run."""

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
    """Write a file of the cache, whole or not at all; several processes may do so at once.

    Args:
        path: Where it will be.
        content: Its text, or what writes it to the path that it is given.

    Returns:
        Why it is not there, where the folder cannot be written or is full: the cache saves time, nothing needs it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, shared=True)
    except OSError as error:
        return error
    return None
