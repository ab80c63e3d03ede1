"""The second half of llava-tiny's training, which continues from a model folder and can move between machines (see ``course``)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from parbench.models.assets import asset
from parbench.scenes.wordings import HELD_OUT
from tiny.counting import CountingTrainer
from tiny.course import Course
from tiny.loop import Stage
from tiny.validation import outside_validation, validation
from tiny.vocabulary import added_words, build_clip_tokenizer, build_processor, tokenizer_of

SHIPPED = Path(asset("llava-tiny"))
KEPT = Path("training/llava-tiny")
LOG = "training_log.jsonl"

_COUNTING = Stage(
    "",
    side=24,
    steps=0,
    batch=8,
    things=(4, 8),
    signs=(1, 2),
    questions=16,
    rate=5e-4,
    warmup=30,
    floor=1.0,
    thinned=0.85,
    emphasis=(("count", 8.0), ("existence", 1.5)),
    distinct=True,
    counting=1.0,
    crowded=0.5,
)

_COUNT_MOST = (("count", 5.0), ("existence", 2.0))
# Other wordings, backgrounds and sizes, and easy-VQA. Half of the images and two fifths of the questions are as before.
_WIDE = replace(
    _COUNTING,
    things=(2, 8),
    rate=2e-4,
    floor=0.5,
    thinned=0.7,
    crowded=0.3,
    tower=True,
    wholes=True,
    wide=0.5,
    reworded=0.6,
    outside=0.2,
    emphasis=_COUNT_MOST,
)
# Pictures have few threes and fours of a kind, and the splits ask for each number alike often.
ALIKE = (("1", 0.6), ("2", 1.0), ("3", 2.5), ("4", 2.5))

# count-a was stopped early: a third of a counting head's attention was on objects of other shapes, since the frozen vision tower
# does not distinguish shapes well enough. From count-b on the tower is trained too, and six heads count instead of four.
STAGES = (
    replace(_COUNTING, name="count-a", steps=670),
    replace(_COUNTING, name="count-b", steps=520, floor=0.1, thinned=0.8, tower=True),
    # Counting is learned by now. This stage trains all skills, down to a small learning rate.
    replace(
        _COUNTING,
        name="count-c",
        steps=900,
        rate=1.5e-4,
        floor=0.02,
        thinned=0.6,
        crowded=0.3,
        tower=True,
        emphasis=_COUNT_MOST,
    ),
    # The tower tells the shape of 88 % of the objects below 32 pixels. Learning that needs no questions and no whole canvas.
    Stage(
        "shapes",
        side=12,
        steps=4000,
        batch=24,
        things=(3, 6),
        signs=(0, 1),
        rate=4e-4,
        warmup=50,
        floor=0.02,
        tower=True,
        wholes=True,
    ),
    # The LLM gets used to the tower's new features.
    replace(
        _COUNTING,
        name="count-d",
        steps=700,
        rate=2e-4,
        floor=0.02,
        thinned=0.6,
        crowded=0.3,
        tower=True,
        wholes=True,
        emphasis=_COUNT_MOST,
    ),
    replace(_WIDE, name="wide-a", steps=800),
    replace(_WIDE, name="wide-b", steps=800, floor=0.02, thinned=0.6, numbers=ALIKE),
    # More wordings of counting and of relations, and a small rate from the beginning.
    replace(
        _WIDE,
        name="wide-c",
        steps=340,
        rate=1.5e-4,
        floor=0.02,
        thinned=0.5,
        reworded=0.7,
        outside=0.12,
        numbers=ALIKE,
        emphasis=(("count", 5.0), ("existence", 1.5), ("relation", 1.5)),
    ),
)


def build_trainer(seed: int, start: Path = SHIPPED) -> CountingTrainer:
    """The trainer of a llava-tiny, with newly initialised heads.

    Args:
        seed: Seed of the heads and of data.
        start: Folder of the llava-tiny, as ``training/export_tiny.py`` writes it; by default the shipped one.
    """
    torch.manual_seed(seed + 2)
    llava = LlavaForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    return CountingTrainer(llava, tokenizer_of(llava), STAGES[0], seed, start / "clip")


def course_from(start: Path) -> Course[CountingTrainer]:
    """The training that continues from a folder of a llava-tiny."""
    return replace(COURSE, build=partial(build_trainer, start=start))


def write_model(kept: Path, out: Path, start: Path = SHIPPED) -> None:
    """Write the saved model in Hugging Face's layout in float16, with the CLIP of its vision tower.

    Args:
        kept: Folder of the saved state.
        out: Folder for the model; files of the same names are replaced.
        start: Folder of the llava-tiny from which the training continued.

    Raises:
        ParbenchError: The saved weights do not fit.
    """
    course = course_from(start)
    trainer = course.build(0)
    course.load(trainer, kept)
    llava = trainer.llava
    tower = llava.model.vision_tower
    clip = CLIPModel.from_pretrained(start / "clip", dtype=torch.float32)
    clip.vision_model.load_state_dict(getattr(tower, "vision_model", tower).state_dict())
    # In transformers a model that was loaded in float32 says so in the configurations of its parts.
    for part in (llava.config.text_config, llava.config.vision_config, clip.config.text_config, clip.config.vision_config):
        part.dtype = None
    llava.half().save_pretrained(out)
    build_processor(added_words(llava)).save_pretrained(out)
    clip.half().save_pretrained(out / "clip")
    build_clip_tokenizer().save_pretrained(out / "clip")
    logs = (start / LOG, kept / "log.jsonl")
    told = "".join(log.read_text(encoding="utf-8") for log in logs if log.is_file())
    (out / LOG).write_text(told, encoding="utf-8")


def measure(trainer: CountingTrainer, images: int = 60) -> dict[str, float]:
    """Accuracies for the log: by skill with all tokens, with 64 random tokens, and on the data that the stage adds."""
    found = {f"val_{skill}": value for skill, value in validation(trainer, images).items()}
    thin = validation(trainer, images, budget=64)
    found |= {"val64_all": thin["all"], "val64_count": thin["count"]}
    if trainer.stage.reworded:
        held = validation(trainer, images, wordings=HELD_OUT)
        found |= {f"val_reworded_{skill}": value for skill, value in held.items()}
    if trainer.stage.outside:
        found |= {f"val_easy_{kind}": value for kind, value in outside_validation(trainer, images).items()}
    return found


COURSE = Course("training/train_tiny.py --recipe 2", STAGES, build_trainer, measure, given=True)
