"""Export of qwen-tiny as a model folder in Hugging Face's layout, with the files that a Qwen2.5-VL checkpoint has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from parbench.scenes.world import PATCH
from tiny.qwen.architecture import FRAMES, MERGE, PIXELS
from tiny.qwen.recipe import COURSE
from tiny.qwen.trainer import QwenTrainer
from tiny.vision_stage import DEVIATION, MEAN

_STEPS = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255}


def write_model(trainer: QwenTrainer, out: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the model, its processor and tokenizer.

    Args:
        trainer: The trainer; its model is changed to ``dtype``.
        out: Folder for the model; files of the same names are replaced.
        dtype: Type of the weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    qwen, tokenizer = trainer.qwen, trainer.tokenizer
    qwen.generation_config.bos_token_id = tokenizer.bos_token_id
    qwen.generation_config.eos_token_id = tokenizer.eos_token_id
    qwen.generation_config.pad_token_id = tokenizer.pad_token_id
    qwen.to(dtype).save_pretrained(out)
    template, tokenizer.chat_template = tokenizer.chat_template, None
    tokenizer.save_pretrained(out)
    tokenizer.chat_template = template
    images = {
        **_STEPS,
        **PIXELS,
        "image_mean": MEAN.flatten().tolist(),
        "image_std": DEVIATION.flatten().tolist(),
        "image_processor_type": "Qwen2VLImageProcessor",
        "merge_size": MERGE,
        "patch_size": PATCH,
        "processor_class": "Qwen2_5_VLProcessor",
        "resample": 3,
        "temporal_patch_size": FRAMES,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(images, indent=2) + "\n")
    (out / "chat_template.json").write_text(json.dumps({"chat_template": template}, indent=2) + "\n")


def write_kept(kept: Path, out: Path) -> None:
    """Write the model whose training is saved in a folder, with its log.

    Args:
        kept: Folder of the saved state.
        out: Folder for the model; files of the same names are replaced.

    Raises:
        ParbenchError: The saved weights do not fit.
    """
    trainer = COURSE.build(0)
    COURSE.load(trainer, kept)
    write_model(trainer, out)
    shutil.copyfile(kept / "log.jsonl", out / "training_log.jsonl")
