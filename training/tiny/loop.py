"""The training loop of every stage: schedule, checkpoints that resume, log lines, time left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from parbench.files import write_whole

Losses = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """One stage of the curriculum.

    Attributes:
        name: Shown in the log and used in the checkpoint's name.
        side: Side of the rendered window in patches (24 is the whole canvas).
        steps: Optimiser steps.
        batch: Images a step.
        things: Least and greatest number of objects.
        signs: Least and greatest number of signs.
        questions: Questions an image (language stages).
        rate: Peak learning rate.
        warmup: Steps over which the rate rises.
        floor: Share of the peak rate that is left at the end of the stage.
        named: Weight of the loss on the words that name an object (language stages).
        thinned: Share of the steps in which only some visual tokens enter the model (language stages).
        emphasis: Weights of skills that are asked more often than others (language stages).
        distinct: Whether a question that was drawn twice is asked once (language stages).
        counting: Weight of the loss that gives each counted thing its share of attention (language stages).
        crowded: Share of the pictures that are chosen for having many things to count (language stages).
        tower: Whether the vision tower is tuned with the language model (language stages).
        wide: Share of the pictures with things of any size, a third each on the usual, a plain and a photographic ground.
        reworded: Share of the questions that are asked in another wording (language stages).
        outside: Share of the steps that are about easy-VQA's train split (language stages), or of the pictures (tower stages).
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
    distinct: bool = False
    counting: float = 0.0
    crowded: float = 0.0
    tower: bool = False
    wide: float = 0.0
    reworded: float = 0.0
    outside: float = 0.0


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine down to ``floor`` of the peak."""
    if step < stage.warmup:
        return stage.rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return stage.rate * (stage.floor + (1 - stage.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


class Trainer(Protocol):
    """What a stage trains: a module whose whole state goes into the checkpoint.

    Attributes:
        stage: The stage that it is in.
    """

    stage: Stage

    def begin(self, stage: Stage) -> None:
        """Go over to a stage."""

    def losses(self, step: int) -> Losses:
        """Named losses of a step whose sum is minimised; those whose names start with ``_`` are only logged.

        Its data have to follow from the step's number alone, so that a resumed run sees the same ones.
        """


@dataclass(frozen=True)
class Pace:
    """How often a stage stops to say or keep something.

    Attributes:
        log_every: Steps between log lines.
        save_every_s: Seconds between checkpoints.
        measure_every_s: Seconds of training between measurements.
    """

    log_every: int = 25
    save_every_s: float = 120.0
    measure_every_s: float = 900.0


_USUAL = Pace()


def run_stages(stages: Sequence[Stage], trainer: Trainer, folder: Path) -> None:
    """Train stages one after the other; see :func:`run_stage`."""
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
    """Train the stage that a trainer is in, or go on where its checkpoint stops, or skip it if it is done.

    Args:
        trainer: What is trained, an ``nn.Module``; its state goes into ``<folder>/<stage>.pt``.
        folder: Where checkpoint and ``log.jsonl`` go.
        pace: How often it logs, saves and measures.
        start: Step to begin with where there is no checkpoint: the weights come from a training elsewhere, the optimiser is
            fresh, and the rate rises again over ``stage.warmup`` steps.
        measure: Accuracies for the log, taken now and then and after the last step.
    """
    running, stage = _Running(trainer, folder, start), trainer.stage
    if running.first >= stage.steps:
        print(f"{stage.name}: done before", flush=True)
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


class _Running:
    """A stage in training.

    Attributes:
        first: Steps that were done before.
        begun: When this process began, by the monotonic clock.
        measured: Seconds of training at the last measurement.
    """

    def __init__(self, trainer: Trainer, folder: Path, start: int) -> None:
        assert isinstance(trainer, nn.Module)
        self.trainer, self.model, self.stage, self.folder = trainer, trainer, trainer.stage, folder
        self.start = self.first = start
        self.seconds = self.measured = 0.0
        self.parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in self.parameters if parameter.ndim > 1]
        plain = [parameter for parameter in self.parameters if parameter.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
            lr=self.stage.rate,
            betas=(0.9, 0.98),
        )
        self._restore()
        self.begun = time.monotonic()
        self._values: dict[str, list[float]] = {}

    @property
    def path(self) -> Path:
        """The checkpoint."""
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
            print(f"{self.stage.name}: going on at step {self.first} of {self.stage.steps}", flush=True)

    def trained(self, now: float) -> float:
        """Seconds of training of the stage, those of processes before included."""
        return self.seconds + now - self.begun

    def save(self, step: int) -> None:
        """Write the checkpoint; a finished stage's has no optimiser."""
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
        """Take a step of the optimiser."""
        risen = min(1.0, (step - self.start + 1) / self.stage.warmup) if self.start else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.stage, step) * risen
        values = self.trainer.losses(step)
        total = torch.stack([value for name, value in values.items() if not name.startswith("_")]).sum()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        for name, value in values.items():
            self._values.setdefault(name, []).append(float(value.detach()))

    def report(self, steps: int, now: float) -> None:
        """Log and print the mean losses since the last report, and how long the rest will take."""
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
