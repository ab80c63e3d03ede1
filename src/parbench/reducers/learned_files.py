"""Weights files of learned methods: their name, what they say of themselves, reading and writing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.fingerprints import file_sha256
from parbench.reducers.modules.base import LearnedModule

LOCAL = Path("learned")
SHIPPED = Path(__file__).parents[1] / "learned"
# The key of a weights file's metadata: all of it as JSON.
ABOUT = "parbench"


def file_name(model: str, kind: str) -> str:
    """Name of the file with the weights of a method for a model."""
    return f"{model}--{kind}.safetensors"


def sha256_of(path: Path) -> str:
    """Sha256 of a weights file.

    Raises:
        ParbenchError: It cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise ParbenchError(f"the weights in {path} cannot be read ({error.strerror}): give the path of a weights file") from error


def read_about(path: Path) -> Mapping[str, Any]:
    """What a weights file says of itself: ``kind``, ``base``, ``sizes``, ``fields``, ``budgets`` and its training.

    Raises:
        ParbenchError: It cannot be read, or is no weights file of a learned method.
    """
    return _read_about(path, sha256_of(path))


@lru_cache(maxsize=64)
def _read_about(path: Path, _digest: str) -> Mapping[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[ABOUT])
        if {"kind", "base", "sizes", "fields", "budgets"} <= set(about):
            return about
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        pass
    raise ParbenchError(f"{path} is damaged or no weights file of a learned method: write it with scripts/train_reducer.py")


@lru_cache(maxsize=16)
def loaded(kind: type[Any], path: Path, digest: str, untrained: bool, device: str) -> LearnedModule:
    """The trained part of a weights file, in float64, in evaluation mode and without gradients.

    Args:
        kind: Its class.
        path: The file.
        digest: Its sha256.
        untrained: Whether it is put back to its state before training.
        device: Where it is used.

    Raises:
        ParbenchError: The tensors do not fit the class.
    """
    from safetensors.torch import load_file

    try:
        module: LearnedModule = kind(**_read_about(path, digest)["sizes"])
        module.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (RuntimeError, TypeError) as error:
        raise ParbenchError(
            f"the weights in {path} do not fit method {kind.kind}: train it with scripts/train_reducer.py"
        ) from error
    module = module.reset() if untrained else module
    return module.double().eval().requires_grad_(False).to(device)


def save(module: LearnedModule, path: Path, about: Mapping[str, Any]) -> None:
    """Write a weights file in float16.

    Args:
        module: The trained part.
        path: The file.
        about: ``base``, the fingerprint of the model, and how it was trained.
    """
    from safetensors.torch import save_file

    from parbench.files import write_whole

    said = {"kind": module.kind, "sizes": module.sizes, **about}
    tensors = {name: value.detach().half().contiguous() for name, value in module.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda partial: save_file(tensors, partial, {ABOUT: json.dumps(said, sort_keys=True)}), shared=True)
