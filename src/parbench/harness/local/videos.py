"""Video files that the rows of a user's own data name."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

# The column with the paths of a row's videos; data without videos do not have it.
VIDEOS = "videos"


def file_digest(path: str) -> str:
    """SHA-256 of a file's content; its path if it cannot be read, which is reported when it is decoded."""
    try:
        about = os.stat(path)
    except OSError:
        return path
    return _digest(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> str:
    """The same for a file of some size, changed at some time."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return path
