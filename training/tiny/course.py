"""A training that can stop at any time and continue on another machine.

Its state is saved in a folder of the repository: weights in float16 (including the heads that are used only in training), the
stage and step at which they were saved, and the log. The optimiser is not saved. When training continues from saved weights, the
learning rate is warmed up again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from safetensors.torch import load_file, save_file

from parbench.errors import ParbenchError
from tiny.attention import attend_rowwise
from tiny.language_stage import LanguageTrainer
from tiny.loop import Stage, run_stage

Kind = TypeVar("Kind", bound=LanguageTrainer)


@dataclass(frozen=True)
class Course(Generic[Kind]):
    """A training in stages.

    Attributes:
        command: The command that trains, for messages.
        stages: The stages in order.
        build: Makes the trainer from the seed of its new weights and data.
        measure: Returns accuracies for the log, from the trainer and a number of images.
        given: Whether the weights at the beginning are at hand everywhere, so that only changed ones are saved.
    """

    command: str
    stages: tuple[Stage, ...]
    build: Callable[[int], Kind]
    measure: Callable[[Kind, int], dict[str, float]]
    given: bool = False

    def keep(self, folder: Path, kept: Path) -> None:
        """Save the state of a training: weights.safetensors, state.json and log.jsonl.

        Args:
            folder: Folder of the training.
            kept: Folder for the saved state.

        Raises:
            ParbenchError: No stage has a checkpoint yet.
        """
        reached = [stage for stage in self.stages if (folder / f"{stage.name}.pt").is_file()]
        if not reached:
            raise ParbenchError(f"{folder} has no checkpoint of {self.stages[0].name}: train first with {self.command}")
        state = torch.load(folder / f"{reached[-1].name}.pt", map_location="cpu", weights_only=True)
        given = self.build(0).state_dict() if self.given else {}
        changed = {
            name: value.half().contiguous()
            for name, value in _once(state["model"]).items()
            if name not in given or not torch.equal(value.half(), given[name].half())
        }
        kept.mkdir(parents=True, exist_ok=True)
        save_file(changed, kept / "weights.safetensors")
        where = {"stage": reached[-1].name, "step": state["step"], "seconds": round(state["seconds"], 1)}
        (kept / "state.json").write_text(json.dumps(where) + "\n")
        if (folder / "log.jsonl").is_file():
            shutil.copyfile(folder / "log.jsonl", kept / "log.jsonl")

    def load(self, trainer: Kind, kept: Path) -> tuple[str, int]:
        """Load saved weights into a trainer.

        Args:
            trainer: The trainer.
            kept: Folder of the saved state.

        Returns:
            The stage and step at which the weights were saved.

        Raises:
            ParbenchError: The weights are of an unknown stage, or do not fit.
        """
        where = json.loads((kept / "state.json").read_text())
        stage = next((stage for stage in self.stages if stage.name == where["stage"]), None)
        if stage is None:
            raise ParbenchError(f"{kept / 'state.json'} names the unknown stage {where['stage']}: update parbench")
        trainer.begin(stage)
        weights = {name: value.float() for name, value in load_file(kept / "weights.safetensors").items()}
        unexpected = trainer.load_state_dict(weights, strict=False).unexpected_keys
        if unexpected:
            raise ParbenchError(f"{kept / 'weights.safetensors'} has the unknown weight {unexpected[0]}: update parbench")
        return where["stage"], where["step"]

    def go_on(self, folder: Path, kept: Path, seed: int, images: int = 60) -> Kind:
        """Start, continue or resume the training.

        Args:
            folder: Folder of the training: checkpoints with optimiser, and the log. If it has a checkpoint, training resumes there.
            kept: Folder of a saved state (see :meth:`keep`), from which the training continues if ``folder`` has no checkpoint.
            seed: Seed of new weights and data.
            images: Number of images in each validation.
        """
        trainer = self.build(seed)
        attend_rowwise(trainer.vlm)
        names = [stage.name for stage in self.stages]
        local = [name for name in names if (folder / f"{name}.pt").is_file()]
        at, step = local[0] if local else names[0], 0
        if not local and (kept / "state.json").is_file():
            at, step = self.load(trainer, kept)
            if (kept / "log.jsonl").is_file():
                shutil.copyfile(kept / "log.jsonl", folder / "log.jsonl")
        (folder / "recipe.json").write_text(json.dumps([asdict(stage) for stage in self.stages], indent=1) + "\n")
        timed = False
        for stage in self.stages[names.index(at) :]:
            trainer.begin(stage)
            if not timed:
                trainer.precision, timed = fastest_precision(trainer), True
            run_stage(trainer, folder, start=step if stage.name == at else 0, measure=lambda: self.measure(trainer, images))
        return trainer


def _once(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights without names for memory that another name has, such as a head that is tied to the embeddings."""
    found: dict[tuple[int, int], str] = {}
    for name, value in weights.items():
        found.setdefault((value.untyped_storage().data_ptr(), int(value.storage_offset())), name)
    return {name: weights[name] for name in found.values()}


def fastest_precision(trainer: LanguageTrainer) -> torch.dtype:
    """The faster precision on this machine. bfloat16 is slow on processors without instructions for it."""
    took = {}
    for precision in (torch.float32, torch.bfloat16):
        trainer.precision = precision
        for _ in range(2):
            begun = time.process_time()
            total = torch.stack([v for name, v in trainer.losses(0).items() if not name.startswith("_")]).sum()
            total.backward()
            took[precision] = time.process_time() - begun
    trainer.zero_grad(set_to_none=True)
    print("CPU seconds per step: " + ", ".join(f"{p}: {s:.1f}" for p, s in took.items()), flush=True)
    return min(took, key=lambda precision: took[precision])
