"""parbench's own cache: what is made once and serves every later run."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_root() -> Path:
    """``$PARBENCH_CACHE``, else ``parbench`` in the user's cache folder (``$XDG_CACHE_HOME``, ``~/.cache``)."""
    named = os.environ.get("PARBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "parbench"


def keep(path: Path, write: Callable[[Path], object]) -> OSError | None:
    """Write a file of the cache, whole or not at all; several processes may do so at once.

    Args:
        path: Where it will be.
        write: Writes it to the path that it is given.

    Returns:
        Why it is not there, where the folder cannot be written or is full: the cache saves time, nothing needs it.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        os.close(handle)
        write(Path(partial))
        os.replace(partial, path)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                os.unlink(partial)
        return error
    return None
