"""Training of an LLM for the tokens of a reducer: LoRA of its layers, the projector, and the reducer's module if it has one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch

from parbench.models import lora
from parbench.models.adapter import ModelAdapter
from parbench.reducers.learned_part import LearnedPart
from tiny.adaptation import LORA_RATE, PROJECTOR_RATE, RANK, SCALE, Adaptation
from tiny.controls import Control
from tiny.language_stage import Look, Turn
from tiny.loop import Losses, Stage
from tiny.reducer_stage import ReducerTrainer
from tiny.vision_stage import Picture


class AdaptedTrainer(ReducerTrainer):
    """The trainer of a model with a reducer. Its parameters are LoRA, changes of the projector, and the reducer's module.

    Trainings with one seed start from the same LoRA, and see the same images and questions, whatever the method is. The loss is
    that of the answers and that at the words that refer to objects.

    Args:
        adapter: The model, in float32. Its own weights stay.
        reducer: The method.
        stage: The stage. Its rate is that of the module.
        seed: Seed of module, LoRA and data.
        terms: Weights of further losses of the method.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        reducer: LearnedPart | Control,
        stage: Stage,
        seed: int,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(adapter, cast(LearnedPart, reducer), stage, seed, terms)
        torch.manual_seed(seed)
        self.adaptation = Adaptation(adapter.model, stage.rate)

    def changed(self) -> AbstractContextManager[None]:
        """Within it, the model has the changes."""
        return self.adaptation.on(self.adapter.model)

    def further(self, look: Look, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """The loss at the words that refer to objects. Others ask for patches as tokens."""
        return {"named": self.reader.named_loss(look, pictures, turns)}

    def write(self, path: Path, about: Mapping[str, Any]) -> lora.LoraFile:
        """Write the adapter.

        Args:
            path: The file.
            about: Its label, and how it was trained.
        """
        lora.save(self.adaptation.tensors(), path, {**about, "scale": SCALE})
        return lora.read(path)


def about_adaptation() -> dict[str, Any]:
    """What decides about an adapter beside what a frozen training has."""
    return {"track": "adapted", "rank": RANK, "scale": SCALE, "rates": {"lora": LORA_RATE, "projector": PROJECTOR_RATE}}
