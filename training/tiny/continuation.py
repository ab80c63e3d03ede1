"""The training of llava-tiny 2, which continues from the shipped weights and can move between machines.

Its state is saved in a folder of the repository: the changed weights in float16 (including the heads that are used only in
training), the stage and step at which they were saved, and the log. The optimiser is not saved. When training continues from saved
weights, the learning rate is warmed up again.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, LlavaForConditionalGeneration

from parbench.errors import ParbenchError
from parbench.models.assets import asset
from parbench.scenes.wordings import HELD_OUT
from tiny.attention import attend_rowwise
from tiny.counting import CountingTrainer
from tiny.loop import Stage, run_stage
from tiny.validation import outside_validation, validation
from tiny.vocabulary import ADDED, build_clip_tokenizer, build_processor, build_tokenizer

SHIPPED = Path(asset("llava-tiny"))
KEPT = Path("training/llava-tiny-2")

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
    wide=0.5,
    reworded=0.6,
    outside=0.2,
    emphasis=_COUNT_MOST,
)

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
    replace(_WIDE, name="wide-a", steps=1600),
    replace(_WIDE, name="wide-b", steps=900, floor=0.02, thinned=0.6),
)


def build_trainer(seed: int) -> CountingTrainer:
    """The trainer of the shipped llava-tiny, with newly initialised heads."""
    torch.manual_seed(seed + 2)
    llava = LlavaForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32)
    return CountingTrainer(llava, build_tokenizer(), STAGES[0], seed, SHIPPED / "clip")


def keep(folder: Path, kept: Path) -> None:
    """Save the state of a training: weights.safetensors, state.json and log.jsonl.

    Args:
        folder: Folder of the training.
        kept: Folder for the saved state.

    Raises:
        ParbenchError: No stage has a checkpoint yet.
    """
    reached = [stage for stage in STAGES if (folder / f"{stage.name}.pt").is_file()]
    if not reached:
        raise ParbenchError(f"{folder} has no checkpoint of {STAGES[0].name}: train first with training/train_tiny.py --recipe 2")
    state = torch.load(folder / f"{reached[-1].name}.pt", map_location="cpu", weights_only=True)
    shipped = build_trainer(0).state_dict()
    changed = {
        name: value.half().contiguous()
        for name, value in state["model"].items()
        if name not in shipped or not torch.equal(value.half(), shipped[name].half())
    }
    kept.mkdir(parents=True, exist_ok=True)
    save_file(changed, kept / "weights.safetensors")
    where = {"stage": reached[-1].name, "step": state["step"], "seconds": round(state["seconds"], 1)}
    (kept / "state.json").write_text(json.dumps(where) + "\n")
    if (folder / "log.jsonl").is_file():
        shutil.copyfile(folder / "log.jsonl", kept / "log.jsonl")


def load_kept(trainer: CountingTrainer, kept: Path) -> tuple[str, int]:
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
    stage = next((stage for stage in STAGES if stage.name == where["stage"]), None)
    if stage is None:
        raise ParbenchError(f"{kept / 'state.json'} names the unknown stage {where['stage']}: update parbench")
    trainer.begin(stage)
    weights = {name: value.float() for name, value in load_file(kept / "weights.safetensors").items()}
    unexpected = trainer.load_state_dict(weights, strict=False).unexpected_keys
    if unexpected:
        raise ParbenchError(f"{kept / 'weights.safetensors'} has the unknown weight {unexpected[0]}: update parbench")
    return where["stage"], where["step"]


def write_model(kept: Path, out: Path) -> None:
    """Write the saved model in Hugging Face's layout in float16, with the CLIP of its vision tower.

    Args:
        kept: Folder of the saved state.
        out: Folder for the model; files of the same names are replaced.

    Raises:
        ParbenchError: The saved weights do not fit.
    """
    trainer = build_trainer(0)
    load_kept(trainer, kept)
    llava = trainer.llava
    tower = llava.model.vision_tower
    clip = CLIPModel.from_pretrained(SHIPPED / "clip", dtype=torch.float32)
    clip.vision_model.load_state_dict(getattr(tower, "vision_model", tower).state_dict())
    llava.half().save_pretrained(out)
    added = ADDED if len(trainer.tokenizer) > len(build_tokenizer()) else ()
    build_processor(added).save_pretrained(out)
    clip.half().save_pretrained(out / "clip")
    build_clip_tokenizer().save_pretrained(out / "clip")
    shutil.copyfile(kept / "log.jsonl", out / "training_log.jsonl")


def fastest_precision(trainer: CountingTrainer) -> torch.dtype:
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


def continue_training(folder: Path, kept: Path, seed: int, stages: tuple[Stage, ...] = STAGES, images: int = 60) -> CountingTrainer:
    """Start, continue or resume the training of llava-tiny 2.

    Args:
        folder: Folder of the training: checkpoints with optimiser, and the log. If it has a checkpoint, the training resumes there.
        kept: Folder of a saved state (see :func:`keep`), from which the training continues if ``folder`` has no checkpoint.
        seed: Seed of heads and data.
        stages: The stages.
        images: Number of images in each validation.
    """
    trainer = build_trainer(seed)
    attend_rowwise(trainer.llava)
    names = [stage.name for stage in stages]
    local = [name for name in names if (folder / f"{name}.pt").is_file()]
    at, step = local[0] if local else names[0], 0
    if not local and (kept / "state.json").is_file():
        at, step = load_kept(trainer, kept)
        if (kept / "log.jsonl").is_file():
            shutil.copyfile(kept / "log.jsonl", folder / "log.jsonl")
    (folder / "recipe.json").write_text(json.dumps([asdict(stage) for stage in stages], indent=1) + "\n")
    timed = False
    for stage in stages[names.index(at) :]:
        trainer.begin(stage)
        if not timed:
            trainer.precision, timed = fastest_precision(trainer), True
        run_stage(trainer, folder, start=step if stage.name == at else 0, measure=lambda: measure(trainer, images))
    return trainer
