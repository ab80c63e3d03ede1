"""The training loop of every stage: schedule, checkpoints that resume, log lines, time left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

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


def run_stage(
    stage: Stage,
    model: nn.Module,
    losses: Callable[[int], Losses],
    folder: Path,
    *,
    save_every_s: float = 120.0,
    log_every: int = 25,
    start: int = 0,
    measure: Callable[[], dict[str, float]] | None = None,
    measure_every_s: float = 900.0,
) -> None:
    """Train one stage, or go on where its checkpoint stops, or skip it if it is done.

    Args:
        stage: What to do.
        model: Everything that is trained; its state goes into ``<folder>/<stage>.pt``.
        losses: Maps the step's number to named losses whose sum is minimised; names that start with ``_`` are only logged.
            Must draw its data from the step's number alone, so that a resumed run sees the same data.
        folder: Where checkpoint and ``log.jsonl`` go.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between log lines.
        start: Step to begin with where there is no checkpoint: the weights come from a training elsewhere, the optimiser is
            fresh, and the rate rises again over ``stage.warmup`` steps.
        measure: Accuracies for the log, taken now and then and after the last step.
        measure_every_s: Seconds of training between them.
    """
    path = folder / f"{stage.name}.pt"
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=stage.rate,
        betas=(0.9, 0.98),
    )
    first, seconds, measured = start, 0.0, 0.0
    if path.exists():
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        first, seconds, start = state["step"], state["seconds"], state.get("start", 0)
        measured = state.get("measured", 0.0)
        if first < stage.steps:
            optimiser.load_state_dict(state["optimiser"])
            print(f"{stage.name}: going on at step {first} of {stage.steps}", flush=True)
    if first >= stage.steps:
        print(f"{stage.name}: done before", flush=True)
        return

    def save(step: int) -> None:
        done = step >= stage.steps
        state = {
            "model": model.state_dict(),
            "optimiser": None if done else optimiser.state_dict(),
            "step": step,
            "seconds": seconds + time.monotonic() - begun,
            "start": start,
            "measured": measured,
            "stage": json.dumps(asdict(stage)),
        }
        write_whole(path, lambda partial: torch.save(state, partial))

    begun = saved = time.monotonic()
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    model.train()
    for step in range(first, stage.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(stage, step) * (min(1.0, (step - start + 1) / stage.warmup) if start else 1.0)
        values = losses(step)
        total = torch.stack([value for name, value in values.items() if not name.startswith("_")]).sum()
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
            counts[name] = counts.get(name, 0) + 1
        now = time.monotonic()
        if (step + 1) % log_every == 0 or step + 1 == stage.steps:
            rate = (step + 1 - first) / (now - begun)
            means = {name: round(sums[name] / counts[name], 4) for name in sums}
            line = {
                "stage": stage.name,
                "step": step + 1,
                "seconds": round(seconds + now - begun, 1),
                **means,
            }
            _log(folder, line)
            left = (stage.steps - step - 1) / rate / 60
            shown = " ".join(f"{name} {value:.3f}" for name, value in means.items())
            print(
                f"{stage.name} {step + 1}/{stage.steps} {rate * stage.batch:.1f} images/s, {left:.1f} min left: {shown}",
                flush=True,
            )
            sums, counts = {}, {}
        done = step + 1 == stage.steps
        if measure and (done or seconds + now - begun - measured > measure_every_s):
            measured = seconds + now - begun
            _log(folder, {"stage": stage.name, "step": step + 1, "seconds": round(measured, 1), **measure()})
        if now - saved > save_every_s and not done:
            save(step + 1)
            saved = now
    save(stage.steps)


def _log(folder: Path, line: dict[str, object]) -> None:
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")
