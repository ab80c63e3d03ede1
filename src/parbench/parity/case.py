"""Recorded cases: inputs, parameters and outputs of official code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from parbench.errors import ParbenchError

# Tolerance for values, relative to the largest recorded one.
TOLERANCE = 1e-4
# Keys with the name of a file of shared inputs, and those with what the official code got of it.
_SHARED = {"inputs_file": "inputs_used", "inputs2_file": "inputs2_used"}


@dataclass(frozen=True)
class Case:
    """One recorded case.

    Attributes:
        name: File name without ending.
        method: The method's name as recorded.
        parameters: Arguments of the official function.
        meta: The whole JSON.
        recorded: Its outputs, and inputs of this case only.
        inputs: Inputs shared by the cases of a seed.
        folder: Folder of further files that ``meta`` names (a model, its configuration).
    """

    name: str
    method: str
    parameters: dict[str, Any]
    meta: dict[str, Any]
    recorded: dict[str, Tensor]
    inputs: dict[str, Tensor]
    folder: Path

    def used(self, name: str) -> bool:
        """Whether the official code got this input."""
        return any(name in self.meta.get(listed, ()) for listed in ("inputs_used", "inputs2_used", "inputs_in_this_file"))

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.recorded or name in self.inputs

    def tensor(self, name: str) -> Tensor:
        """A recorded tensor of this case, or else the shared input of this name.

        Raises:
            ParbenchError: There is no such tensor.
        """
        found = self.recorded.get(name, self.inputs.get(name))
        if found is None:
            raise ParbenchError(f"case {self.name} records no tensor {name}")
        return found

    def model_files(self) -> tuple[Path, str, str]:
        """The folder of the recorded model, and the names of its weights and its configuration.

        Raises:
            ParbenchError: One of the files is missing.
        """
        names = self.meta["model_file"], self.meta["config_file"]
        for name in names:
            if not (self.folder / name).is_file():
                raise ParbenchError(f"case {self.name} needs {name}, which is not in {self.folder}")
        return self.folder, *names


@dataclass
class Verdict:
    """The comparison of our class with a case; None for properties that the case does not record.

    Attributes:
        indices: Whether the same patches are selected.
        order: Whether they are in the same order.
        values: Largest difference of values, relative to the largest recorded magnitude.
        logits: The same for logits.
        notes: What differs.
    """

    indices: bool | None = None
    order: bool | None = None
    values: float | None = None
    logits: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def matches(self) -> bool:
        """Whether something was compared and everything agrees."""
        flags = [flag for flag in (self.indices, self.order) if flag is not None]
        errors = [error for error in (self.values, self.logits) if error is not None]
        return bool(flags or errors) and all(flags) and all(error <= TOLERANCE for error in errors)

    def chosen(self, ours: Tensor, recorded: Tensor) -> None:
        """Compare index tensors, as sets and as sequences."""
        same = sorted(ours.tolist()) == sorted(recorded.tolist())
        self.indices = same and self.indices is not False
        self.order = ours.tolist() == recorded.tolist() and self.order is not False

    def close(self, ours: Tensor, recorded: Tensor, *, logits: bool = False) -> None:
        """Compare values."""
        if ours.shape != recorded.shape:
            error = float("inf")
            self.notes.append(f"shape {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
        else:
            scale = recorded.double().abs().max().clamp(min=1e-12)
            difference = (ours.double() - recorded.double()).abs().max() / scale
            # NaN is not agreement.
            error = float("inf") if difference.isnan() else float(difference)
        if logits:
            self.logits = max(error, self.logits or 0.0)
        else:
            self.values = max(error, self.values or 0.0)


def load_cases(folder: Path) -> list[Case]:
    """All cases of a folder, by name.

    Raises:
        ParbenchError: The folder has no cases, or a file of a case is missing or damaged.
    """
    shared: dict[str, dict[str, Tensor]] = {}
    cases = []
    for path in sorted(folder.glob("*.json")):
        meta = _described(path)
        if not isinstance(meta, dict) or "method" not in meta:
            continue
        tensors = path.with_suffix(".safetensors")
        if not tensors.is_file():
            raise ParbenchError(f"case {path.name} needs {tensors.name} in the same folder: a case is a pair of files")
        inputs: dict[str, Tensor] = {}
        for file, used in _SHARED.items():
            wanted = meta.get(file) or ""
            source = folder / wanted
            if wanted not in shared:
                shared[wanted] = _tensors(source) if source.suffix == ".safetensors" and source.is_file() else {}
            if meta.get(used) and not shared[wanted] and not meta.get("inputs_in_this_file"):
                raise ParbenchError(f"case {path.name} needs {wanted}, which is not in {folder}")
            inputs |= shared[wanted]
        parameters = meta.get("parameters") or {}
        cases.append(Case(path.stem, meta["method"], parameters, meta, _tensors(tensors), inputs, folder))
    if not cases:
        raise ParbenchError(f"{folder} contains no recorded case: expected pairs NAME.json and NAME.safetensors")
    return cases


def _described(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ParbenchError(f"{path} is damaged ({error}): copy it again") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ParbenchError(f"{path} cannot be read as safetensors ({error}): copy it again") from error
