"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: str | Callable[[Path], object], *, shared: bool = False) -> None:
    """Write a file that is on the disk when this returns, or leave what was there.

    Args:
        path: Where it will be; its folder is there.
        content: Its text, or what writes it to the path that it is given.
        shared: Whether several processes may write it at once, each to a partial file of its own. The partial file of a lone
            writer has one name, so that a killed one leaves no litter that its successor does not write over.

    Raises:
        OSError: The disk refuses.
    """
    own = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
    partial = path.with_name(own) if shared else path.with_suffix(".partial")
    try:
        if isinstance(content, str):
            partial.write_text(content, encoding="utf-8")
        else:
            content(partial)
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        if shared:
            with contextlib.suppress(OSError):
                partial.unlink()
        raise
