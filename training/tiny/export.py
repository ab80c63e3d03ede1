"""Export of a training's checkpoints as a model folder in Hugging Face's layout."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPModel, LlavaForConditionalGeneration

from parbench.errors import ParbenchError
from tiny.architecture import clip_config, llava_config
from tiny.recipe import LANGUAGE_STAGES, TEXT_STAGES, VISION_STAGES
from tiny.vocabulary import build_clip_tokenizer, build_processor, build_tokenizer


def _state(folder: Path, stages: tuple, part: str) -> dict[str, torch.Tensor]:
    """Weights of one part of the trainer, from the checkpoint of the last stage that has one."""
    reached = [path for stage in stages if (path := folder / f"{stage.name}.pt").is_file()]
    if not reached:
        raise ParbenchError(f"{folder} has no checkpoint of {stages[0].name}: train first with training/train_tiny.py")
    model = torch.load(reached[-1], map_location="cpu", weights_only=True)["model"]
    return {key.removeprefix(f"{part}."): value for key, value in model.items() if key.startswith(f"{part}.")}


def export(folder: Path, out: Path) -> None:
    """Write LLaVA and CLIP in float16, processor, tokenizers and log.

    Args:
        folder: Folder of the training, with its checkpoints and ``log.jsonl``.
        out: Folder for the model; files of the same names are replaced.

    Raises:
        ParbenchError: There are no checkpoints yet.
    """
    tokenizer = build_tokenizer()
    clip_tokenizer = build_clip_tokenizer()
    clip = CLIPModel(clip_config(len(clip_tokenizer)))
    clip.load_state_dict(_state(folder, (*VISION_STAGES, *TEXT_STAGES), "clip"))
    llava = LlavaForConditionalGeneration(llava_config(len(tokenizer)))
    llava.load_state_dict(_state(folder, LANGUAGE_STAGES, "llava"))
    llava.generation_config.eos_token_id = tokenizer.eos_token_id
    llava.generation_config.pad_token_id = tokenizer.pad_token_id
    llava.half().save_pretrained(out)
    build_processor().save_pretrained(out)
    clip.half().save_pretrained(out / "clip")
    clip_tokenizer.save_pretrained(out / "clip")
    seen: dict[tuple[str, int], str] = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        entry = json.loads(line)
        # After a kill, the steps since the last checkpoint are repeated; the later line counts.
        seen[entry["stage"], entry["step"]] = line
    kept = {stage.name: stage.steps for stage in (*VISION_STAGES, *TEXT_STAGES, *LANGUAGE_STAGES)}
    lines = [line for (stage, step), line in seen.items() if step <= kept.get(stage, 0)]
    (out / "training_log.jsonl").write_text("\n".join(lines) + "\n")
