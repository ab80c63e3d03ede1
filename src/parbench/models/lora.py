"""LoRA files (``model.adapter``): low-rank changes of linear layers, merged into a checkpoint's weights when it is loaded.

A weight W becomes W + s B A (LoRA, arXiv 2106.09685). A parameter may also have a whole change. Tensors in the file have Hugging
Face's names with an ending: ``model.language_model.layers.0.mlp.up_proj.weight.lora_A``, ``.lora_B`` and ``.delta``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.fingerprints import file_sha256, fingerprint

# What a file says of itself: all of it as JSON under one key of its metadata.
ABOUT = "parbench"
KIND = "adapter"
_DOWN, _UP, _WHOLE = ".lora_A", ".lora_B", ".delta"
_WRITTEN_BY = "write it with scripts/train_reducer.py METHOD --track adapted"
_NEEDED: Mapping[str, type | tuple[type, ...]] = {"label": str, "base": str, "model": str, "scale": (int, float)}
# What it says of its training, which a run records.
_TRAINING = ("method", "budgets", "steps", "seed")


@dataclass(frozen=True, eq=False)
class LoraFile:
    """A LoRA file that was read.

    Attributes:
        path: The file.
        sha256: Sha256 of its content.
        about: What it says of itself: ``label``, ``base`` (fingerprint of the checkpoint that it belongs to), ``model`` (name of
            that), ``scale``, and how it was trained.
        shapes: Shapes of its tensors by name.
    """

    path: Path
    sha256: str
    about: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]

    def title(self, model: str) -> str:
        """The name of a model with it, such as ``llava-tiny+random-64``, given the model's name with or without it."""
        return f"{self.unnamed(model)}+{self.about['label']}"

    def unnamed(self, model: str) -> str:
        """The inverse of :meth:`title`."""
        return model.removesuffix(f"+{self.about['label']}")

    @property
    def said(self) -> dict[str, Any]:
        """What a run records of it."""
        training = {name: self.about[name] for name in _TRAINING if name in self.about}
        return {"name": self.about["label"], "sha256": self.sha256, **training}

    def on(self, base: str) -> str:
        """Fingerprint of the weights that it gives on a checkpoint with the fingerprint ``base``.

        Raises:
            ParbenchError: It belongs to other weights.
        """
        if self.about["base"] != base:
            raise ParbenchError(
                f"the adapter in {self.path} was trained for other weights of {self.about['model']} (fingerprint "
                f"{str(self.about['base'])[:12]}) than those of this model ({base[:12]}): use it with those, or train one for these"
            )
        return hashlib.sha256(f"{base} {self.sha256}".encode()).hexdigest()

    def check_shapes(self, parameters: Mapping[str, tuple[int, ...]]) -> None:
        """Check that it changes parameters that a model has.

        Args:
            parameters: Shapes of the model's parameters by name.

        Raises:
            ParbenchError: The model lacks one, or it has another shape.
        """
        for name in self._changed():
            wanted = self._shape(name)
            if (found := parameters.get(name)) != wanted:
                has = "has none" if found is None else f"has the shape {found}"
                raise ParbenchError(
                    f"the adapter in {self.path} changes {name} with the shape {wanted}, but this model {has}: use it with "
                    f"{self.about['model']}"
                )

    def _changed(self) -> Iterator[str]:
        """The names of the changed parameters."""
        yield from dict.fromkeys(name.rpartition(".")[0] for name in self.shapes)

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape of a parameter that it changes."""
        if name + _WHOLE in self.shapes:
            return self.shapes[name + _WHOLE]
        return self.shapes[name + _UP][0], self.shapes[name + _DOWN][1]

    @torch.no_grad()
    def merge(self, model: Any) -> None:
        """Add the changes to a model's weights, computed in float32."""
        from safetensors.torch import load_file

        tensors, parameters = load_file(self.path), dict(model.named_parameters())
        for name in self._changed():
            weight: Tensor = parameters[name]
            change = _change(tensors, name, float(self.about["scale"]), weight.device)
            weight.copy_((weight.float() + change).to(weight.dtype))


def _change(tensors: Mapping[str, Tensor], name: str, scale: float, device: torch.device) -> Tensor:
    if name + _WHOLE in tensors:
        return tensors[name + _WHOLE].to(device).float()
    return scale * (tensors[name + _UP].to(device).float() @ tensors[name + _DOWN].to(device).float())


def asked(config: Mapping[str, Any]) -> LoraFile | None:
    """The file that ``adapter`` of a ``conf/model`` mapping names; None without one.

    Raises:
        ParbenchError: It cannot be read, or cannot be merged into such a model.
    """
    path = config.get("adapter")
    if path is None:
        return None
    if config.get("weights") == "random":
        raise ParbenchError("model.adapter belongs to the weights of a checkpoint: leave it out with model.weights=random")
    for key, why in (("quantization", "unquantised weights"), ("device_map", "the weights of one device")):
        if config.get(key) is not None:
            raise ParbenchError(f"model.adapter is merged into {why}: leave out model.{key}={config[key]}")
    return read(Path(str(path)).expanduser())


def named(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model with the adapter in its name, such as ``llava-tiny+random-64``; the same without one.

    Raises:
        ParbenchError: The file cannot be read, or cannot be merged into such a model.
    """
    found = asked(config)
    return dict(config) if found is None else {**config, "name": found.title(str(config["name"]))}


def weights_of(folder: Path, lora: LoraFile | None) -> str:
    """Fingerprint of the checkpoint in a folder with a file merged in.

    Raises:
        ParbenchError: It belongs to other weights.
    """
    base = fingerprint(folder)
    return base if lora is None else lora.on(base)


def read(path: Path) -> LoraFile:
    """Read what a file says of itself, and the shapes of its tensors.

    Raises:
        ParbenchError: It cannot be read, or is no LoRA file of parbench.
    """
    try:
        digest = file_sha256(path)
    except OSError as error:
        raise ParbenchError(f"model.adapter={path} cannot be read ({error.strerror}): give the path of an adapter") from error
    return _read(path, digest)


@lru_cache(maxsize=16)
def _read(path: Path, digest: str) -> LoraFile:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "{}"))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise ParbenchError(f"model.adapter={path} is damaged or no safetensors file: {_WRITTEN_BY}") from error
    about = about if isinstance(about, dict) else {}
    if about.get("kind") != KIND:
        what = f"the weights of method {about['kind']}" if about.get("kind") else "another safetensors file"
        raise ParbenchError(f"model.adapter={path} is {what} and no adapter of parbench: {_WRITTEN_BY}")
    if lacking := [name for name, kind in _NEEDED.items() if not isinstance(about.get(name), kind)]:
        raise ParbenchError(f"model.adapter={path} does not say its {lacking[0]}: {_WRITTEN_BY}")
    if not shapes or (wrong := _unpaired(shapes)):
        raise ParbenchError(f"model.adapter={path} has {f'no pair for {wrong}' if shapes else 'no tensors'}: {_WRITTEN_BY}")
    return LoraFile(path, digest, about, shapes)


def _unpaired(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The first tensor that is half of a change, or none at all; empty if all is well."""
    for name, shape in shapes.items():
        head, _, ending = name.rpartition(".")
        if f".{ending}" == _WHOLE:
            continue
        other = shapes.get(head + {_DOWN: _UP, _UP: _DOWN}.get(f".{ending}", ""))
        inner = (1, 0) if f".{ending}" == _UP else (0, 1)
        if other is None or len(shape) != 2 or len(other) != 2 or shape[inner[0]] != other[inner[1]]:
            return name
    return ""


def save(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, Any]) -> None:
    """Write a file in float16.

    Args:
        tensors: Changes by name.
        path: The file.
        about: ``label``, ``base``, ``model``, ``scale``, and how it was trained.
    """
    from safetensors.torch import save_file

    from parbench.files import write_whole

    halves = {name: value.detach().half().contiguous() for name, value in tensors.items()}
    said = {ABOUT: json.dumps({**about, "kind": KIND}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda partial: save_file(halves, partial, said), shared=True)
