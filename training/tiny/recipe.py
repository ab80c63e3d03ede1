"""The stages of llava-tiny's training, and the functions that run them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from tiny.architecture import clip_config, llava_config
from tiny.language_stage import LanguageTrainer
from tiny.loop import Stage, run_stages
from tiny.vision_stage import VisionTrainer, place_positions
from tiny.vocabulary import build_clip_tokenizer, build_tokenizer

VISION_STAGES = (
    Stage("vision-06", side=6, steps=1400, batch=48, things=(1, 3), signs=(0, 1)),
    Stage("vision-12", side=12, steps=2400, batch=16, things=(1, 5), signs=(0, 2), rate=8e-4, floor=0.3),
    Stage(
        "vision-24",
        side=24,
        steps=500,
        batch=8,
        things=(4, 8),
        signs=(1, 2),
        rate=4e-4,
        floor=0.05,
        warmup=50,
    ),
)

# Training of text tower and projections alone, with the frozen vision tower.
TEXT_STAGES = (
    Stage("text-12", side=12, steps=900, batch=16, things=(2, 6), signs=(0, 2), rate=1e-3, floor=0.3),
    Stage("text-24", side=24, steps=200, batch=8, things=(4, 8), signs=(1, 2), rate=4e-4, floor=0.05, warmup=20),
)

# Weights of skills that are asked more often: first those that match words with patches, later those that need two matches.
_MATCHING = (("existence", 3.0), ("count", 3.0), ("relation", 3.0))
_COMPARING = (("existence", 3.0), ("count", 3.0), ("relation", 6.0))
_READING = (("existence", 2.0), ("count", 3.0), ("relation", 2.0), ("reading", 2.0))
_COUNTING = (("existence", 2.0), ("count", 5.0))

# If a stage has several parts, a loss was added between them (see the model card).
_FOUR_THINGS = Stage(
    "", side=7, steps=0, batch=16, things=(2, 4), signs=(0, 1), questions=14, rate=6e-4, floor=0.5, emphasis=_MATCHING
)
_HALF_CANVAS = Stage(
    "", side=12, steps=0, batch=12, things=(3, 6), signs=(1, 2), questions=16, rate=6e-4, floor=0.5, emphasis=_READING
)
_WHOLE_CANVAS = Stage("", side=24, steps=0, batch=8, things=(4, 8), signs=(1, 2), questions=24, rate=6e-4)

LANGUAGE_STAGES = (
    Stage(
        "language-06",
        side=6,
        steps=700,
        batch=16,
        things=(1, 2),
        signs=(0, 1),
        questions=10,
        floor=0.5,
        named=0.0,
    ),
    Stage(
        "language-07",
        side=7,
        steps=626,
        batch=16,
        things=(1, 3),
        signs=(0, 1),
        questions=10,
        rate=6e-4,
        floor=0.15,
    ),
    replace(_FOUR_THINGS, name="language-07b", steps=185, things=(1, 4)),
    replace(_FOUR_THINGS, name="language-07c", steps=322),
    replace(_FOUR_THINGS, name="language-07d", steps=500),
    replace(_FOUR_THINGS, name="language-07e", steps=332),
    Stage(
        "language-10",
        side=10,
        steps=700,
        batch=12,
        things=(2, 5),
        signs=(0, 2),
        questions=16,
        rate=6e-4,
        floor=0.5,
        emphasis=_COMPARING,
    ),
    replace(_HALF_CANVAS, name="language-12", steps=109),
    replace(_HALF_CANVAS, name="language-12b", steps=400),
    replace(_WHOLE_CANVAS, name="language-24", steps=112, floor=0.95, emphasis=_READING),
    replace(_WHOLE_CANVAS, name="language-24b", steps=656, floor=0.25, warmup=30, emphasis=_COUNTING),
    replace(
        _WHOLE_CANVAS,
        name="language-24c",
        steps=820,
        rate=4e-4,
        floor=0.02,
        warmup=30,
        thinned=0.6,
        emphasis=_COUNTING,
    ),
)


def train_vision(folder: Path, seed: int, device: torch.device) -> VisionTrainer:
    """Train the CLIP, or load it if its stages are finished.

    Args:
        folder: Folder of checkpoints and log.
        seed: Seed of weights and data.
        device: The device.
    """
    torch.manual_seed(seed)
    tokenizer = build_clip_tokenizer()
    trainer = VisionTrainer(CLIPModel(clip_config(len(tokenizer))), tokenizer, VISION_STAGES[0], seed)
    place_positions(trainer.clip.vision_model)
    trainer.to(device)
    run_stages(VISION_STAGES, trainer, folder)
    trainer.freeze_tower()
    run_stages(TEXT_STAGES, trainer, folder)
    return trainer


def train_language(folder: Path, seed: int, device: torch.device) -> LanguageTrainer:
    """Train projector and LLM on the vision tower of :func:`train_vision`, which is trained first if necessary.

    Args:
        folder: Folder of checkpoints and log.
        seed: Seed of weights and data.
        device: The device.
    """
    clip = train_vision(folder, seed, device).clip
    torch.manual_seed(seed + 1)
    tokenizer = build_tokenizer()
    llava = LlavaForConditionalGeneration(llava_config(len(tokenizer)))
    tower = llava.model.vision_tower
    getattr(tower, "vision_model", tower).load_state_dict(clip.vision_model.state_dict())
    trainer = LanguageTrainer(llava, tokenizer, LANGUAGE_STAGES[0], seed).to(device)
    run_stages(LANGUAGE_STAGES, trainer, folder)
    return trainer
