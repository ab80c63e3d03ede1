"""Comparison of the vision towers of a CLIP and a LLaVA: CLIP's projections fit LLaVA's patches only if they are the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from parbench.cache import cache_root, keep
from parbench.models import clip_pickle
from parbench.models.fingerprints import fingerprint

# Prefixes of the tower in older and newer LLaVA checkpoints.
_LLAVA = ("model.vision_tower.vision_model.", "vision_tower.vision_model.", "model.vision_tower.", "vision_tower.")
_CLIP = ("vision_model.",)


@dataclass(frozen=True)
class TowerDifference:
    """Where two vision towers differ by more than the rounding of the coarser dtype.

    Attributes:
        tensors: Number of tensors that differ.
        of: Number of tensors.
        worst: The tensor that differs most, or that only one of them has.
        largest: Its largest absolute difference; None if shapes differ or one tower lacks it.
    """

    tensors: int
    of: int
    worst: str
    largest: float | None

    def __str__(self) -> str:
        size = "is not in both, or of another shape" if self.largest is None else f"differs by up to {self.largest:.2g}"
        return f"{self.tensors} of {self.of} tensors differ; {self.worst} {size}"


def tower_difference(llava: Path, clip: Path, sizes: Any) -> TowerDifference | None:
    """Compare the vision towers of two checkpoints. The result is cached.

    Args:
        llava: Folder of a LLaVA in safetensors.
        clip: Folder of a CLIP, in safetensors or pickled.
        sizes: Its ``CLIPConfig``.

    Returns:
        The difference; None if the weights are equal within rounding.
    """
    memory = cache_root() / "clip" / f"towers-{fingerprint(llava)[:16]}-{fingerprint(clip)[:16]}.json"
    try:
        known = json.loads(memory.read_text())
        return TowerDifference(**known) if known else None
    except (OSError, ValueError, TypeError):
        pass
    found = _compare(dict(_tower(llava, _LLAVA)), dict(_pickled_or_safe(clip, sizes)))
    keep(memory, json.dumps(found and vars(found)))
    return found


def _pickled_or_safe(clip: Path, sizes: Any) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    if not clip_pickle.is_pickled(clip):
        yield from _tower(clip, _CLIP)
        return
    for name, value in clip_pickle.read(clip, sizes).items():
        if name.startswith(_CLIP):
            yield name.removeprefix(_CLIP[0]), lambda value=value: value  # type: ignore[misc]


def _tower(folder: Path, prefixes: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """The tensors of the tower by name, each read on demand."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = list(file.keys())
        for name in names:
            prefix = next((one for one in prefixes if name.startswith(one)), None)
            if prefix and not name.endswith(".position_ids"):

                def load(path: Path = path, name: str = name) -> Tensor:
                    with safe_open(path, "pt") as file:
                        found: Tensor = file.get_tensor(name)
                        return found

                yield name.removeprefix(prefix), load


def _compare(ours: dict[str, Callable[[], Tensor]], theirs: dict[str, Callable[[], Tensor]]) -> TowerDifference | None:
    differing: dict[str, float | None] = {}
    for name in sorted(set(ours) | set(theirs)):
        a, b = (side[name]() if name in side else None for side in (ours, theirs))
        if a is None or b is None or a.shape != b.shape:
            differing[name] = None
            continue
        # The coarser of the stored dtypes limits the comparison.
        coarse = max(a.dtype, b.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        a, b = a.to(coarse).double(), b.to(coarse).double()
        step = torch.finfo(coarse)
        if bool(((a - b).abs() > step.eps * b.abs() + step.tiny).any()):
            differing[name] = float((a - b).abs().max())
    if not differing:
        return None
    worst = max(differing, key=lambda name: float("inf") if differing[name] is None else float(differing[name] or 0))
    return TowerDifference(len(differing), len(set(ours) | set(theirs)), worst, differing[worst])
