"""parbench's cache folder, for data that is computed once and reused by later runs."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from parbench.files import write_whole

_log = logging.getLogger(__name__)


def cache_root() -> Path:
    """The cache folder: ``$PARBENCH_CACHE``, or ``parbench`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    If that folder cannot be created, for example with a read-only home, a folder in the system's temporary folder is used, with a
    warning.
    """
    named = os.environ.get("PARBENCH_CACHE")
    return Path(named) if named else _usual(os.environ.get("XDG_CACHE_HOME"), os.environ.get("HOME"))


@lru_cache
def _usual(caches: str | None, home: str | None) -> Path:
    """The default folder. The arguments are the environment variables on which it depends, as the key of the cache."""
    try:
        folder = Path(caches or Path.home() / ".cache") / "parbench"
    except RuntimeError:
        # The user has no home, for example in a container.
        return _temporary("there is no home folder")
    return folder if folder.is_dir() or _can_be_made(folder) else _temporary(f"{folder} cannot be made")


def _can_be_made(folder: Path) -> bool:
    there = next(above for above in folder.absolute().parents if above.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary(reason: str) -> Path:
    """This user's folder in the temporary folder; a new one if another user owns a folder of that name."""
    folder = Path(tempfile.gettempdir()) / f"parbench-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            folder = Path(tempfile.mkdtemp(prefix="parbench-cache-"))
    except OSError as error:
        reason = f"{reason}, nor can {folder} ({error.strerror})"
    _log.warning(f"the cache is in {folder}, since {reason}; set PARBENCH_CACHE to a permanent folder")
    return folder


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
