"""The training loop of a stage: learning rate, checkpoints, log, and the time left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from parbench.files import write_whole

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        name: Name in the log and of the checkpoint.
        side: Side of the rendered window in patches (24 is the whole canvas).
        steps: Number of optimiser steps.
        batch: Images per step.
        things: Minimum and maximum number of objects.
        signs: Minimum and maximum number of signs.
        questions: Questions per image (language stages); 0 in a stage that trains the vision tower alone.
        rate: Peak learning rate.
        warmup: Number of warm-up steps.
        floor: Learning rate at the end of the stage, as a share of the peak.
        named: Weight of the loss at the words that refer to an object (language stages).
        thinned: Share of the steps in which only some of the visual tokens enter the LLM (language stages).
        emphasis: Weights of skills that are asked more often (language stages).
        numbers: Weights of the answers to counting questions in the losses; 1 for others (language stages).
        distinct: Whether duplicate questions about an image are removed (language stages).
        counting: Weight of the loss on the attention of counting heads (language stages).
        crowded: Share of the images that are selected for many objects to count (language stages).
        tower: Whether the vision tower is trained together with the LLM (language stages).
        wholes: Whether the vision tower also learns the kind of each object from all of its patches together.
        wide: Share of the images with objects of any size, each with a textured, plain or photographic background.
        reworded: Share of the questions in other wordings (language stages).
        outside: Share of the steps on easy-VQA's train split (language stages), or of the images (tower stages).
        shapes: Rows and columns of patches of whole images instead of windows of ``side``; one is drawn for each step.
        adopted: Whether the LLM begins with the weights of another model in training.
        clips: Share of the steps on clips instead of images.
        data: Added to the seed of the data, so that stages alike do not see the same images again.
        differences: Whether the vision tower begins to see what differs between the frames of a pair.
    """

    name: str
    side: int
    steps: int
    batch: int
    things: tuple[int, int]
    signs: tuple[int, int]
    questions: int = 0
    rate: float = 1e-3
    warmup: int = 100
    floor: float = 0.1
    named: float = 0.3
    thinned: float = 0.0
    emphasis: tuple[tuple[str, float], ...] = ()
    numbers: tuple[tuple[str, float], ...] = ()
    distinct: bool = False
    counting: float = 0.0
    crowded: float = 0.0
    tower: bool = False
    wholes: bool = False
    wide: float = 0.0
    reworded: float = 0.0
    outside: float = 0.0
    shapes: tuple[tuple[int, int], ...] = ()
    adopted: bool = False
    clips: float = 0.0
    differences: bool = False
    data: int = 0


def prefixed(losses: Losses, part: str) -> Losses:
    """Losses with a part of the model in their names; those that are only logged still are."""
    return {f"{'_' if name[0] == '_' else ''}{part}_{name.strip('_')}": value for name, value in losses.items()}


def learning_rate(stage: Stage, step: int) -> float:
    """The learning rate of a step: linear warm-up, then cosine decay to ``floor`` times the peak."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.rate * (stage.floor + (1 - stage.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


class Trainer(Protocol):
    """A module that is trained in stages. Its whole state is saved in the checkpoint.

    Attributes:
        stage: The current stage.
    """

    stage: Stage

    def begin(self, stage: Stage) -> None:
        """Start a stage."""

    def losses(self, step: int) -> Losses:
        """Losses of a step by name. Their sum is minimised; those whose names start with ``_`` are only logged.

        The data must depend only on the number of the step, so that a resumed training uses the same data.
        """


@dataclass(frozen=True)
class Pace:
    """Intervals of logging, checkpoints and measurements.

    Attributes:
        log_every: Steps between log lines.
        save_every_s: Seconds between checkpoints.
        measure_every_s: Seconds of training between measurements.
    """

    log_every: int = 25
    save_every_s: float = 120.0
    measure_every_s: float = 1800.0


_USUAL = Pace()


def run_stages(stages: Sequence[Stage], trainer: Trainer, folder: Path) -> None:
    """Train several stages in order; see :func:`run_stage`."""
    for stage in stages:
        trainer.begin(stage)
        run_stage(trainer, folder)


def run_stage(
    trainer: Trainer,
    folder: Path,
    *,
    pace: Pace = _USUAL,
    start: int = 0,
    measure: Callable[[], dict[str, float]] | None = None,
) -> None:
    """Train the current stage of a trainer, or resume it from its checkpoint, or skip it if it is finished.

    Args:
        trainer: The trainer, an ``nn.Module``. Its state is saved in ``<folder>/<stage>.pt``.
        folder: Folder for checkpoint and ``log.jsonl``.
        pace: Intervals of logging, checkpoints and measurements.
        start: First step if there is no checkpoint. If it is not 0, the weights are from another training; the optimiser is new,
            and the learning rate is warmed up again.
        measure: Returns accuracies for the log; called at intervals and after the last step.
    """
    running, stage = _Running(trainer, folder, start), trainer.stage
    if running.first >= stage.steps:
        print(f"{stage.name}: already finished", flush=True)
        return
    saved = running.begun
    running.model.train()
    for step in range(running.first, stage.steps):
        running.take(step)
        now, done = time.monotonic(), step + 1 == stage.steps
        if (step + 1) % pace.log_every == 0 or done:
            running.report(step + 1, now)
        if measure and (done or running.trained(now) - running.measured > pace.measure_every_s):
            running.measured = running.trained(now)
            running.log(step + 1, running.measured, measure())
        if now - saved > pace.save_every_s and not done:
            running.save(step + 1)
            saved = now
    running.save(stage.steps)


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """The trained parameters in groups: by their share of the learning rate, and matrices, which decay, before others.

    The share is the attribute ``rate_share`` of the module that has the parameter, and 1 without one.
    """
    share_of: dict[nn.Parameter, float] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            share_of.setdefault(parameter, float(getattr(module, "rate_share", 1.0)))
    by_share: dict[float, list[nn.Parameter]] = {1.0: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            by_share.setdefault(share_of[parameter], []).append(parameter)
    return [
        {"params": [one for one in those if (one.ndim > 1) == matrices], "weight_decay": decay, "share": share}
        for share, those in by_share.items()
        for matrices, decay in ((True, 0.05), (False, 0.0))
    ]


class _Running:
    """A stage in training.

    Attributes:
        first: The first step of this process.
        begun: Time at which this process started, by the monotonic clock.
        measured: Seconds of training until the last measurement.
    """

    def __init__(self, trainer: Trainer, folder: Path, start: int) -> None:
        assert isinstance(trainer, nn.Module)
        self.trainer, self.model, self.stage, self.folder = trainer, trainer, trainer.stage, folder
        self.start = self.first = start
        self.seconds = self.measured = 0.0
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(_groups(self.model), lr=self.stage.rate, betas=(0.9, 0.98))
        self._restore()
        self.begun = time.monotonic()
        self._values: dict[str, list[float]] = {}

    @property
    def path(self) -> Path:
        """Path of the checkpoint."""
        return self.folder / f"{self.stage.name}.pt"

    def _restore(self) -> None:
        if not self.path.exists():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.first, self.seconds, self.start = state["step"], state["seconds"], state.get("start", 0)
        self.measured = state.get("measured", 0.0)
        if self.first < self.stage.steps:
            self.optimiser.load_state_dict(state["optimiser"])
            print(f"{self.stage.name}: resumed at step {self.first} of {self.stage.steps}", flush=True)

    def trained(self, now: float) -> float:
        """Seconds of training of the stage, including earlier processes."""
        return self.seconds + now - self.begun

    def save(self, step: int) -> None:
        """Write the checkpoint. That of a finished stage has no optimiser."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": None if step >= self.stage.steps else self.optimiser.state_dict(),
            "step": step,
            "seconds": self.trained(time.monotonic()),
            "start": self.start,
            "measured": self.measured,
            "stage": json.dumps(asdict(self.stage)),
        }
        write_whole(self.path, lambda partial: torch.save(state, partial))

    def take(self, step: int) -> None:
        """Perform an optimiser step."""
        risen = min(1.0, (step - self.start + 1) / self.stage.warmup) if self.start else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.stage, step) * risen * group.get("share", 1.0)
        values = self.trainer.losses(step)
        total = torch.stack([value for name, value in values.items() if not name.startswith("_")]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        for name, value in values.items():
            self._values.setdefault(name, []).append(float(value.detach()))

    def report(self, steps: int, now: float) -> None:
        """Log and print the mean losses since the last report, and print the time left."""
        means = {name: round(sum(values) / len(values), 4) for name, values in self._values.items()}
        self._values = {}
        self.log(steps, self.trained(now), means)
        rate = (steps - self.first) / (now - self.begun)
        left = (self.stage.steps - steps) / rate / 60
        shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        print(
            f"{self.stage.name} {steps}/{self.stage.steps} {rate * self.stage.batch:.1f} images/s, {left:.1f} min left: {shown}",
            flush=True,
        )

    def log(self, steps: int, seconds: float, values: dict[str, float]) -> None:
        """Append a line to ``log.jsonl``."""
        line = {"stage": self.stage.name, "step": steps, "seconds": round(seconds, 1), **values}
        with (self.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
