"""Sha256 of the files of a checkpoint. Hashes of large files are cached."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from parbench.cache import cache_root, keep
from parbench.errors import ParbenchError

# The files that affect the outputs of a checkpoint.
_DECIDING = (".safetensors", ".json", ".model", ".jinja")
PICKLE = "pytorch_model.bin"
# Stands for the fingerprint of a model without a checkpoint.
NO_WEIGHTS = "random"
# Smaller files are faster to hash than to look up.
_LARGE = 256 << 20


def fingerprint(folder: Path) -> str:
    """Sha256 over the files of a checkpoint that affect its outputs (weights, configuration, tokenizer).

    Raises:
        ParbenchError: The content of a file in the hub's cache does not match its name.
    """
    digest = hashlib.sha256()
    pickled = not any(folder.glob("*.safetensors"))
    for path in sorted(folder.rglob("*")):
        if (path.suffix in _DECIDING or (pickled and path.name == PICKLE)) and path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(bytes.fromhex(file_sha256(path)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Sha256 of a file. That of a large file is cached until its size, times or inode change.

    Raises:
        ParbenchError: The file is in the hub's cache, where large files are named by their sha256, and has another sha256.
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
            f"{path} is damaged, as its sha256 is not that of its name in the hub's cache: delete {real} and download or "
            "copy it again"
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
