"""The stages of qwen-tiny's training, and its measurements."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from tiny.continuation import ALIKE
from tiny.course import Course
from tiny.loop import Stage
from tiny.qwen.architecture import qwen_config
from tiny.qwen.clip_trainer import ClipTrainer
from tiny.qwen.clip_validation import clip_validation, reels_of_val
from tiny.qwen.vocabulary import first_tokenizer, known_pieces
from tiny.qwen.warm_start import adopt, shipped
from tiny.validation import pictures_of_val, validation

KEPT = Path("training/qwen-tiny")
# Tokens of a thinned validation, of 144: as many as 64 of llava-tiny's 576 would be 16.
BUDGET = 36

_VISION = Stage("", side=6, steps=0, batch=48, things=(1, 3), signs=(0, 1))
_WHOLE = replace(_VISION, side=24, batch=8, things=(4, 8), signs=(1, 2), rate=4e-4, floor=0.05)
_LANGUAGE = Stage(
    "",
    side=24,
    steps=0,
    batch=8,
    things=(4, 8),
    signs=(1, 2),
    questions=24,
    rate=6e-4,
    distinct=True,
    counting=1.0,
    emphasis=(("existence", 3.0), ("count", 4.0), ("relation", 3.0)),
)

# On whole canvases: by then most other skills are learned.
_HARD = (("count", 4.0), ("reading", 2.0), ("position", 1.5))

# Images of other shapes than the canvas: a third of the steps.
_SHAPES = ((24, 24), (24, 24), (24, 24), (24, 24), (16, 32), (32, 16))

_SAID = (("reading", 2.0), ("position", 1.5))
# Half of the steps on clips, with more questions about them than before; the words for things weigh more.
_CLIPS = replace(
    _LANGUAGE,
    rate=4e-4,
    floor=0.02,
    thinned=0.4,
    crowded=0.5,
    shapes=_SHAPES,
    clips=0.55,
    named=0.6,
    emphasis=(("count", 6.0), *_SAID),
    numbers=ALIKE,
)

STAGES = (
    replace(_VISION, name="vision-06", steps=1000),
    replace(_VISION, name="vision-12", side=12, steps=1200, batch=16, things=(1, 5), signs=(0, 2), rate=8e-4, floor=0.3),
    replace(_WHOLE, name="vision-24", steps=500, warmup=50, clips=0.5),
    replace(_WHOLE, name="vision-clips", steps=300, warmup=30, clips=0.7, differences=True),
    replace(
        _LANGUAGE,
        name="language-08",
        side=8,
        steps=300,
        batch=16,
        things=(1, 3),
        signs=(0, 1),
        questions=12,
        floor=0.5,
        adopted=True,
    ),
    replace(_LANGUAGE, name="language-12", side=12, steps=300, batch=12, things=(2, 6), signs=(0, 2), questions=16, floor=0.5),
    replace(_LANGUAGE, name="language-24", steps=350, floor=0.4, warmup=50, thinned=0.3, crowded=0.3, clips=0.35),
    replace(
        _LANGUAGE,
        name="language-24b",
        steps=650,
        rate=4e-4,
        floor=0.02,
        warmup=50,
        thinned=0.5,
        crowded=0.3,
        tower=True,
        shapes=_SHAPES,
        clips=0.6,
        emphasis=_HARD,
    ),
    # The tower sees ways of moving only if its labels of changes count alike.
    replace(_WHOLE, name="vision-ways", steps=450, warmup=30, clips=0.75),
    replace(_CLIPS, name="language-24c", steps=1000, warmup=40),
    replace(
        _CLIPS,
        name="language-24d",
        steps=450,
        rate=3e-4,
        warmup=30,
        thinned=0.3,
        crowded=0.6,
        clips=0.5,
        emphasis=(("count", 8.0), *_SAID),
        data=1,
    ),
)


def build_trainer(seed: int) -> ClipTrainer:
    """The trainer of a qwen-tiny whose LLM has llava-tiny's weights (see ``warm_start``) and whose tower has random ones."""
    torch.manual_seed(seed + 3)
    tokenizer = first_tokenizer()
    qwen = Qwen2_5_VLForConditionalGeneration(qwen_config(tokenizer))
    adopt(qwen, shipped(), known_pieces())
    return ClipTrainer(qwen, tokenizer, STAGES[0], seed)


@torch.inference_mode()
def _seen_on_val(trainer: ClipTrainer, images: int) -> dict[str, float]:
    """Accuracies of the dense heads on the first images of the val split, and on as many clips in a stage with clips."""
    pictures = pictures_of_val(images)
    sums: dict[str, list[float]] = {}
    for first in range(0, images, 8):
        found = trainer.look(pictures[first : first + 8])
        if trainer.stage.clips:
            found |= trainer.look_at_clips(reels_of_val(images)[first : first + 8])
        for name, value in found.items():
            if name.endswith(("_acc", "_right")):
                sums.setdefault(name.strip("_"), []).append(float(value))
    return {f"val_{name}": round(sum(values) / len(values), 4) for name, values in sums.items()}


def measure(trainer: ClipTrainer, images: int = 60) -> dict[str, float]:
    """Accuracies for the log: of the dense heads; after stages with questions by skill, with all tokens and a quarter of them."""
    if not trainer.stage.questions:
        return _seen_on_val(trainer, images)
    found = {f"val_{skill}": value for skill, value in validation(trainer, images).items()}
    thin = validation(trainer, images, budget=BUDGET)
    found |= {f"val{BUDGET}_all": thin["all"], f"val{BUDGET}_count": thin["count"]}
    if trainer.stage.clips:
        found |= {f"val_clip_{skill}": value for skill, value in clip_validation(trainer, images).items()}
        found[f"val{BUDGET}_clip_all"] = clip_validation(trainer, images, BUDGET)["all"]
    return found


COURSE = Course("training/train_qwen_tiny.py", STAGES, build_trainer, measure)
