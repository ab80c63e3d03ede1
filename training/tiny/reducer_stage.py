"""Training of the learned part of a reducer with a frozen model: the loss is that of answers about reduced images."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from parbench.models.adapter import ModelAdapter
from parbench.models.vision import Encoded
from parbench.reducers.learned_part import LearnedPart, Shares
from parbench.reducers.modules.base import LearnedModule
from parbench.reducers.token_probes import Probes
from parbench.scenes.questions import Question
from parbench.scenes.splits import load_split
from tiny.language_stage import LanguageTrainer
from tiny.loop import Losses, Stage
from tiny.sequences import Look, Turn
from tiny.validation import drawn
from tiny.vision_stage import TRAIN_SEEDS, Picture, draw_picture, normalise

# As in the last stages of llava-tiny's own training.
STAGE = Stage(
    "reducer",
    side=24,
    steps=600,
    batch=8,
    things=(4, 8),
    signs=(1, 2),
    questions=24,
    rate=1e-3,
    warmup=30,
    floor=0.1,
    emphasis=(("existence", 2.0), ("count", 3.0), ("relation", 2.0), ("reading", 2.0)),
)
# Images whose features a module may start from.
_FIRST = 200


class ReducerTrainer(nn.Module):
    """The trainer of a learned reducer's module. Its parameters are those of the module alone.

    Args:
        adapter: The model, in float32. It is frozen.
        reducer: The method. Half of the steps are at its budget, the others at one drawn from its ``training_budgets``.
        stage: The stage.
        seed: Seed of module and data.
        terms: Weights of further losses of the method by name; 1 for those that are not named. Logs have them without weights.
    """

    def __init__(
        self, adapter: ModelAdapter, reducer: LearnedPart, stage: Stage, seed: int, terms: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stage, self.seed, self.terms = stage, seed, dict(terms or {})
        self.adapter, self.reducer = adapter, reducer
        adapter.model.requires_grad_(False)
        config = adapter.model.config
        width = (config.vision_config if self._first else config.text_config).hidden_size
        self.module: LearnedModule = reducer.module_for(adapter.geometry, width)
        # In a tuple, so that the model's weights are no part of this module.
        self._readers = (LanguageTrainer(adapter.model, adapter.tokenizer, stage, seed),)
        self.reader.requires_grad_(False)

    @property
    def reader(self) -> LanguageTrainer:
        """What runs the LLM on questions."""
        return self._readers[0]

    def begin(self, stage: Stage) -> None:
        """Start a stage."""
        self.stage = stage
        self.reader.begin(stage)

    def prepare(self) -> None:
        """Set the module to the state from which training starts, which may depend on features of training images."""
        rng = np.random.default_rng([self.seed, 5])
        generator = torch.Generator().manual_seed(self.seed)
        self.reducer.start(self.module, self.adapter, self._batches(rng), generator)

    def _batches(self, rng: np.random.Generator) -> Iterable[torch.Tensor]:
        """Pixels of some images, batch by batch."""
        for _ in range(_FIRST // self.stage.batch):
            pictures = [draw_picture(int(one), self.stage) for one in rng.integers(*TRAIN_SEEDS, size=self.stage.batch)]
            yield normalise([picture.pixels for picture in pictures])

    def losses(self, step: int) -> Losses:
        """Losses of a step. Its data, budget and noise depend only on the number of the step and the seed."""
        rng = np.random.default_rng([self.seed, step, 11])
        lesson = self.reader.draw(rng)
        least, most = self.reducer.training_budgets
        budget = self.reducer.budget if rng.random() < 0.5 else int(rng.integers(least, most + 1))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        seeds = rng.integers(2**62, size=len(lesson.pictures)).tolist()
        turns = self.reader.turns(lesson.asked)
        with self._autocast(), self.changed():
            encoded = self._encoded(lesson.pictures)
            method = self.reducer.with_budget(budget)
            tokens, more = method.learn(self.module, self._features(encoded), self._probes(encoded, seeds), generator)
            look = self._read(method, tokens, turns, method.shares(self.module, soft=True))
            losses: Losses = {"answer": self.reader.answer_loss(look, turns), **self._weighed(more)}
            losses |= self.further(look, lesson.pictures, turns)
        return losses | {"_right": torch.tensor(np.mean(look.right(turns)))}

    def changed(self) -> AbstractContextManager[None]:
        """Within it, the model runs as it is trained; here as it is."""
        return nullcontext()

    def further(self, look: Look, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """Further losses of the LLM; none for a frozen one."""
        return {}

    def _weighed(self, more: Losses) -> Losses:
        """Further losses with their weights, and each weighted one as it is for the log."""
        found = {name: self.terms.get(name, 1.0) * loss for name, loss in more.items()}
        return found | {f"_{name}": more[name].detach() for name in self.terms.keys() & more.keys()}

    @torch.no_grad()
    def _encoded(self, pictures: list[Picture]) -> Encoded:
        return self.adapter.encode(
            normalise([picture.pixels for picture in pictures]), self.reducer.vision_blocks(self.adapter.geometry)
        )

    @property
    def _first(self) -> bool:
        """Whether the reducer is in front of the projector."""
        return getattr(self.reducer, "place", None) == "before_projector"

    def _features(self, encoded: Encoded) -> torch.Tensor:
        """The tokens that the reducer gets."""
        return encoded.features if self._first else self.adapter.project(encoded.features)

    def _read(self, method: LearnedPart, tokens: torch.Tensor, turns: list[Turn], shares: Shares | None) -> Look:
        """Run the LLM on questions with the reducer's tokens."""
        visual = self.adapter.project(tokens) if self._first else tokens
        return self.reader.read(visual, turns, None, unfed=method.unfed(self.adapter.geometry), shares=shares)

    def _probes(self, encoded: Encoded, seeds: list[int]) -> Probes:
        return Probes(self.adapter, encoded, [""] * len(seeds), seeds)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.reader.precision == torch.bfloat16)

    @torch.inference_mode()
    def judge(
        self, pictures: list[Picture], asked: list[list[Question]], method: LearnedPart, module: LearnedModule
    ) -> tuple[list[bool], dict[str, torch.Tensor]]:
        """For each question whether the greedy answer is correct, with tokens as in evaluation, and the measures of the images."""
        turns = self.reader.turns(asked)
        encoded = self._encoded(pictures)
        seeds = [zlib.crc32(picture.pixels.tobytes()) for picture in pictures]
        reduction = method.evaluate(module, self._features(encoded), self._probes(encoded, seeds))
        look = self._read(method, reduction.tokens, turns, method.shares(module, soft=False))
        return look.right(turns), reduction.measures


def validated(
    trainer: ReducerTrainer, module: LearnedModule, images: int, budgets: Sequence[int], batch: int = 8
) -> dict[str, float]:
    """Exact match on the first images of the val split, and the method's own figures of an image, at some budgets.

    Args:
        trainer: The trainer.
        module: The trained part in float64 and in evaluation mode, such as that of a weights file.
        images: Number of images.
        budgets: The budgets.
        batch: Images that are evaluated together.
    """
    scenes, items = load_split("val")
    asked: dict[int, list[Question]] = {}
    for item in items:
        asked.setdefault(item.image, []).append(item.question)
    found = {}
    for budget in budgets:
        method, hits, own = trainer.reducer.with_budget(budget), list[bool](), dict[str, list[float]]()
        for first in range(0, images, batch):
            numbers = range(first, min(images, first + batch))
            shown = [drawn(scenes[number]) for number in numbers]
            right, measures = trainer.judge(shown, [asked[number] for number in numbers], method, module)
            hits += right
            for name, values in measures.items():
                own.setdefault(name, []).extend(values.tolist())
        found[f"val_{budget}"] = round(float(np.mean(hits)), 4)
        found |= {f"{name}_{budget}": round(float(np.mean(values)), 4) for name, values in own.items()}
    return found


def stage_of(steps: int, rate: float = STAGE.rate, questions: int = STAGE.questions) -> Stage:
    """The stage with another number of steps, rate, and number of questions."""
    return replace(STAGE, steps=steps, rate=rate, questions=questions, warmup=min(STAGE.warmup, max(1, steps // 4)))
