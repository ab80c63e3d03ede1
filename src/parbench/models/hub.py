"""Checkpoints of the hub: downloads (small files first, weights last), and checks of the local cache."""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError

SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
# File patterns of weights; the first that exists is used.
SAFETENSORS = ("*.safetensors",)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    Attributes:
        name: Its path in the repository.
        size: Bytes.
        cached: Whether it is in the local cache.
    """

    name: str
    size: int
    cached: bool


def is_hub_name(path: str) -> bool:
    """Whether a text can be a repository, ``org/model``."""
    return not path.startswith((".", "/", "~")) and path.count("/") == 1


def offline() -> bool:
    """Whether access to the hub is disabled (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def cached_snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of a revision in the local hub cache, complete or not; None if there is none."""
    root = _repository(name)
    commit = revision or "main"
    if not _is_commit(commit):
        ref = root / "refs" / commit
        commit = ref.read_text().strip() if ref.is_file() else ""
    folder = root / "snapshots" / commit
    return folder if commit and folder.is_dir() else None


def small_files(name: str, revision: str | None, key: str) -> Path:
    """The local folder of a repository with configuration and tokenizer, downloaded if missing. Weights may be absent.

    Raises:
        ParbenchError: They are not available.
    """
    folder = cached_snapshot(name, revision)
    if folder and (folder / "config.json").is_file() and (offline() or _is_commit(revision)):
        return folder
    return _download(name, revision, SMALL, key)


def whole(name: str, revision: str | None, key: str, forms: Sequence[str] = SAFETENSORS) -> Path:
    """The local folder of a repository with its weights, downloaded if missing and if the disk has room.

    Args:
        name: ``org/model``.
        revision: A commit, branch or tag; None for main.
        key: The setting that names it, for messages.
        forms: File patterns of weights; the first that the repository has is used.

    Raises:
        ParbenchError: They are not available, the cache is incomplete and downloads are disabled, or the disk is too small.
    """
    folder = cached_snapshot(name, revision)
    lacking = lacks(folder, forms) if folder else None
    if folder and lacking is None and (offline() or _is_commit(revision)):
        return folder
    if offline():
        if folder and lacking:
            raise ParbenchError(half_copied(folder, lacking))
        raise _absent(name, revision, key, "HF_HUB_OFFLINE is set")
    files = listing(name, revision, forms)
    if files:
        check_space(name, sum(file.size for file in files if not file.cached))
    return _download(name, revision, (*SMALL, *chosen([file.name for file in files or ()], forms)), key)


def listing(name: str, revision: str | None, forms: Sequence[str] = SAFETENSORS) -> list[HubFile] | None:
    """The files that would be downloaded, with the sizes that the hub reports; None if the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    if offline():
        return None
    try:
        found: Any = snapshot_download(name, revision=revision, allow_patterns=[*SMALL, *forms], dry_run=True)
    except Exception:  # Any network error: the hub cannot be reached.
        return None
    files = [HubFile(info.filename, info.file_size, not info.will_download) for info in found]
    wanted = chosen([file.name for file in files], forms)
    return [file for file in files if _matches(file.name, (*SMALL, *wanted))]


def data_files(name: str, revision: str | None, split: str, configurations: Sequence[str]) -> list[HubFile] | None:
    """The files of a data set's split, judged by their names; None if the hub cannot be reached."""
    from huggingface_hub import snapshot_download

    if offline():
        return None
    patterns = [f"*{one}*{split}*" for one in configurations] or [f"*{split}*"]
    try:
        found: Any = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns, dry_run=True)
    except Exception:  # Any network error: the hub cannot be reached.
        return None
    return [HubFile(info.filename, info.file_size, not info.will_download) for info in found]


def chosen(names: Sequence[str], forms: Sequence[str]) -> tuple[str, ...]:
    """The first of the file patterns that matches one of the names; all if none does."""
    return next(((form,) for form in forms if any(_matches(name, (form,)) for name in names)), tuple(forms))


def lacks(folder: Path, forms: Sequence[str] = SAFETENSORS) -> str | None:
    """What is wrong with the first missing or damaged file of a checkpoint; None if its weights are complete."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() and not path.exists() and _matches(path.name, (*SMALL, *forms)):
            return f"{path.name} is a link to a missing file"
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, AttributeError, TypeError):
            return f"{index.name} cannot be read"
        absent = next((name for name in shards if not (folder / name).is_file()), None)
        if absent:
            return f"{absent} is missing"
    found = [path for path in sorted(folder.iterdir()) if _matches(path.name, forms)]
    if not found:
        return f"no {' or '.join(forms)} is there"
    return next((said for path in found if path.suffix == ".safetensors" and (said := _cut_off(path))), None)


def half_copied(folder: Path, lacking: str) -> str:
    """The error message for an incomplete checkpoint."""
    blobs = folder.parent.parent / "blobs"
    broken = sorted(blobs.glob("*.incomplete")) if blobs.is_dir() else []
    more = f" ({broken[0].name} is left over from an interrupted download)" if broken else ""
    how = "download it again without HF_HUB_OFFLINE" if blobs.is_dir() else "copy it again"
    return f"the checkpoint in {folder} is incomplete: {lacking}{more}: {how}, or copy that file there"


def check_space(name: str, needed: int) -> None:
    """Check that the disk of the hub's cache has room for ``needed`` bytes.

    Raises:
        ParbenchError: It does not.
    """
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    free = free_space(cache)
    if needed > free:
        raise ParbenchError(
            f"{name} needs {size_text(needed)}, but {cache} has only {size_text(free)} free: make room, or set HF_HOME to "
            f"another disk"
        )


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def size_text(size: float) -> str:
    """A number of bytes as text, in the units of the hub."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def _download(name: str, revision: str | None, patterns: Sequence[str], key: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # Errors of the hub, of its network library, and of the disk.
        raise _absent(name, revision, key, type(error).__name__) from error


def _absent(name: str, revision: str | None, key: str, why: str) -> ParbenchError:
    return ParbenchError(
        f"the weights of {name} (revision {revision or 'main'}) are not in the local hub cache and cannot be downloaded ({why}): "
        f"copy the checkpoint to this machine and set {key}=/path/to/folder"
    )


def _cut_off(path: Path) -> str | None:
    """What is wrong with a safetensors file, judged by its header and length; None if nothing."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(8)
        length = int.from_bytes(begin, "little") if len(begin) == 8 else size
        if length + 8 > size:
            return f"{path.name} cannot be read: its header is truncated"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, AttributeError, TypeError, IndexError):
            return f"{path.name} cannot be read: its header is damaged"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"{path.name} cannot be read: it has {size} of {expected} bytes"


def _repository(name: str) -> Path:
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def _is_commit(revision: str | None) -> bool:
    return bool(revision and re.fullmatch(r"[0-9a-f]{40}", revision))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
