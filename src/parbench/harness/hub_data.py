"""Data sets of the Hugging Face Hub: resolves a name to a commit, and loads its rows from a cache or the network."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\b")
_DATA = (".parquet", ".arrow", ".jsonl", ".json", ".csv")


@lru_cache
def resolve(repository: str, revision: str | None, config: str | None) -> str:
    """The commit of a branch or tag, from the hub or, if it cannot be reached, from a local cache.

    Args:
        repository: Such as ``lmms-lab-encoder/POPE``.
        revision: A commit, branch or tag; None for ``main``.
        config: Name of the configuration that is to be read.

    Raises:
        ParbenchError: The hub does not have it, or the hub cannot be reached and no cache has it.
    """
    if revision and _COMMIT.fullmatch(revision):
        return revision
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = HfApi().dataset_info(repository, revision=revision, timeout=10).sha
        if found:
            return found
    except RevisionNotFoundError as error:
        raise ParbenchError(f"data set {repository} has no revision {revision} on the hub: set dataset.revision") from error
    except RepositoryNotFoundError as error:
        raise ParbenchError(
            f"there is no data set {repository} on the hub, or it asks for a token of yours: log in with `hf auth login`, or give "
            "a folder as dataset.path"
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        cached = _cached_commit(repository, revision, config)
        if cached is None:
            raise _nowhere(repository, config, type(error).__name__) from error
        return cached
    raise _nowhere(repository, config, "no commit")


def load(repository: str, config: str | None, split: str, commit: str, files: Any = None) -> Any:
    """The rows of a split at a commit, as a ``datasets.Dataset``.

    Sources are tried in this order: the hub's file cache, the tables that ``datasets`` prepared earlier, the hub.

    Args:
        repository: Such as ``lmms-lab-encoder/POPE``.
        config: Name of the configuration; None for the only one.
        split: Name of the split.
        commit: The commit.
        files: The files to read if the task names them, in the form of ``data_files`` of ``datasets``.

    Raises:
        ParbenchError: The rows cannot be found or read, or a cache holds only some of a split's files.
    """
    import datasets
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    try:
        snapshot = _snapshot(repository, commit)
        if files is not None:
            place = str(snapshot) if snapshot else repository
            return datasets.load_dataset(place, config, split=split, data_files=files, **({} if snapshot else {"revision": commit}))
        if snapshot is not None and (rows := _of_files(snapshot, config, split)) is not None:
            return rows
        if (folder := _prepared(repository, config, commit)) is not None:
            return _of_prepared(repository, folder, split)
        return datasets.load_dataset(repository, config, split=split, revision=commit)
    except ParbenchError:
        raise
    except (OSError, ValueError, HfHubHTTPError, httpx.HTTPError, datasets.exceptions.DatasetGenerationError) as error:
        said = str(error.__cause__ or error).splitlines()
        if re.search(r"(?i)unknown split|config name|BuilderConfig", str(error)):
            raise ParbenchError(f"data set {repository} cannot be read as it is asked for: {said[0]}") from error
        raise _nowhere(repository, config, type(error).__name__) from error


def _nowhere(repository: str, config: str | None, why: str) -> ParbenchError:
    what = f" (configuration {config})" if config else ""
    return ParbenchError(
        f"the data set {repository}{what} is neither in the local cache nor to be downloaded ({why}): copy it to this machine and "
        "give its folder as dataset.path=/path/to/folder"
    )


def _cache(repository: str) -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}"


def _snapshot(repository: str, commit: str) -> Path | None:
    folder = _cache(repository) / "snapshots" / commit
    return folder if folder.is_dir() else None


def _prepared_folders(repository: str, config: str | None) -> list[Path]:
    """Folders that ``datasets`` prepared for a configuration earlier, the newest last; they are named by commit."""
    import datasets
    from datasets.naming import camelcase_to_snakecase

    *owner, name = repository.split("/")
    top = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / "___".join([*owner, camelcase_to_snakecase(name)])
    found = [
        folder
        for folder in top.glob(f"{config or '*'}/*/*")
        if _COMMIT.fullmatch(folder.name) and (folder / "dataset_info.json").is_file()
    ]
    if config is None:
        default = [folder for folder in found if folder.parts[-3] == "default"]
        names = {folder.parts[-3] for folder in found}
        if not default and len(names) > 1:
            return []
        found = default or found
    return sorted(found, key=lambda folder: folder.stat().st_mtime)


def _prepared(repository: str, config: str | None, commit: str) -> Path | None:
    return next((folder for folder in _prepared_folders(repository, config) if folder.name == commit), None)


def _cached_commit(repository: str, revision: str | None, config: str | None) -> str | None:
    """The commit of a revision according to a cache; None if no cache has it."""
    name = _cache(repository) / "refs" / (revision or "main")
    if name.is_file() and _COMMIT.fullmatch(commit := name.read_text().strip()):
        return commit
    if revision is not None:
        return None
    snapshots = sorted((_cache(repository) / "snapshots").glob("*"))
    if len(snapshots) > 1:
        raise ParbenchError(
            f"the cache holds data set {repository} at several commits and does not say which is main: set dataset.revision to "
            f"{' or '.join(folder.name for folder in snapshots)}"
        )
    # The newest, as datasets itself takes it.
    found = [*snapshots, *_prepared_folders(repository, config)[-1:]]
    return found[0].name if found else None


def _of_files(snapshot: Path, config: str | None, split: str) -> Any:
    """The rows of a split from a folder of the hub's cache; None if it holds no data of it, such as only a README."""
    import datasets

    files = [file for file in sorted(snapshot.rglob("*")) if file.suffix in _DATA]
    inside = [file for file in files if config in file.relative_to(snapshot).parts[:-1]] if config else []
    chosen = [file for file in inside or files if file.name.startswith((f"{split}-", f"{split}.", f"{split}_"))]
    if not files:
        return None
    check_complete(chosen or files, snapshot)
    if _describes(snapshot):
        return datasets.load_dataset(str(snapshot), config, split=split)
    if not chosen:
        return None
    kind = {"jsonl": "json"}.get(chosen[0].suffix[1:], chosen[0].suffix[1:])
    return datasets.load_dataset(kind, data_files=[str(file) for file in chosen], split="train")


def _describes(snapshot: Path) -> bool:
    """Whether the folder's README assigns files to configurations and splits."""
    card = snapshot / "README.md"
    return card.is_file() and bool(re.search(r"^configs:", card.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))


def check_complete(files: list[Path], folder: Path) -> None:
    """Check that no file is a broken link and that no shard of a numbered series is missing.

    Raises:
        ParbenchError: The folder is an incomplete copy.
    """
    dead = [file for file in files if not file.exists()]
    series: dict[tuple[Path, str, int], set[int]] = {}
    for file in files:
        if (found := _SHARD.search(file.name)) and file not in dead:
            key = file.parent, file.name[: found.start()], int(found.group(2))
            series.setdefault(key, set()).add(int(found.group(1)))
    lacking = [f"{dead[0].relative_to(folder)} is a link to nothing"] if dead else []
    lacking += [f"{name} has {len(there)} of {total} files" for (_, name, total), there in series.items() if len(there) < total]
    if lacking:
        raise ParbenchError(f"{folder} was copied in part: {lacking[0]}; copy it again, or download it")


def _of_prepared(repository: str, folder: Path, split: str) -> Any:
    from datasets.packaged_modules.cache.cache import Cache

    config, version, commit = folder.parts[-3:]
    name = repository.split("/")[-1]
    builder = Cache(dataset_name=name, repo_id=repository, config_name=config, version=version, hash=commit)
    if split not in (builder.info.splits or {}):
        there = ", ".join(builder.info.splits or {}) or "none"
        raise ParbenchError(f"data set {repository} has no split {split} in the cache: it has {there}")
    return builder.as_dataset(split=split)
