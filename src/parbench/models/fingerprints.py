"""Sha256 of the files of a checkpoint, read once: large ones are remembered in parbench's cache."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from parbench.cache import cache_root, keep
from parbench.errors import ParbenchError

# What decides a checkpoint's numbers.
_DECIDING = (".safetensors", ".json", ".model", ".jinja")
PICKLE = "pytorch_model.bin"
# Smaller files are read faster than remembered.
_LARGE = 256 << 20


def fingerprint(folder: Path) -> str:
    """Sha256 over the files of a checkpoint that decide its numbers (weights, configuration, tokenizer).

    Raises:
        ParbenchError: A file of the hub's cache is not what its name says.
    """
    digest = hashlib.sha256()
    pickled = not any(folder.glob("*.safetensors"))
    for path in sorted(folder.rglob("*")):
        if (path.suffix in _DECIDING or (pickled and path.name == PICKLE)) and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 of a file; of a large one it is remembered as long as the file is the same by size, times and inode.

    Raises:
        ParbenchError: It lies in the hub's cache, where large files are named by their sha256, under another name.
    """
    real = path.resolve()
    about = real.stat()
    state = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
    if about.st_size < _LARGE:
        found = _read(real)
    else:
        memory = cache_root() / "fingerprints.json"
        known = _known(memory)
        if (entry := known.get(str(real))) and entry[:-1] == state:
            return str(entry[-1])
        found = _read(real)
        # Another process may have added to it meanwhile.
        known = {**_known(memory), str(real): [*state, found]}
        keep(memory, json.dumps(known))
    if real.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", real.name) and real.name != found:
        raise ParbenchError(
            f"{path} is damaged: its content is not what the hub's cache says it is; delete {real} and download or copy it again"
        )
    return found


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _known(memory: Path) -> dict[str, Any]:
    try:
        found = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
