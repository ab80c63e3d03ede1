"""Atomic writing of files: a file is either complete or absent."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: str | Callable[[Path], object], *, shared: bool = False) -> None:
    """Write a file atomically and flush it to disk. After an error, the previous file is unchanged.

    Args:
        path: The file, in an existing folder.
        content: The text, or a function that writes the content to the given path.
        shared: Whether several processes may write the file at the same time. Each then has its own partial file. Otherwise the
            partial file has a fixed name, so that the next writer overwrites what a killed one left.

    Raises:
        OSError: The file cannot be written.
    """
    own = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
    partial = path.with_name(own) if shared else path.with_suffix(".partial")
    try:
        if isinstance(content, str):
            partial.write_text(content, encoding="utf-8")
        else:
            # safetensors makes files that only their owner can read; this one gets the mode of any new file.
            partial.touch()
            mode = partial.stat().st_mode
            content(partial)
            partial.chmod(mode)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        if shared:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise
