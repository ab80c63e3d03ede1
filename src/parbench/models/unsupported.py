"""Checkpoints that parbench does not support, and what to use instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_INSTEAD = "use LLaVA-1.5 as converted by llava-hf (model=llava-1.5-7b, model=llava-1.5-13b), or a checkpoint of that form"
_ORIGINAL = {
    "liuhaotian/llava-v1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-13b": "llava-hf/llava-1.5-13b-hf",
}
# By model type in config.json: what it is, and how it differs from LLaVA-1.5.
_TYPES = {
    "llava_next": "LLaVA-1.6 (LLaVA-NeXT), which cuts an image into tiles and has several times 576 visual tokens",
    "llava_next_video": "LLaVA-NeXT-Video, which reads frames and tiles",
    "llava_onevision": "LLaVA-OneVision, with tiles and a SigLIP tower, which has no CLS token",
    "video_llava": "Video-LLaVA, which reads frames",
    "vipllava": "ViP-LLaVA, which uses five layers of the vision tower where LLaVA-1.5 uses one",
    "llava_llama": "a LLaVA in the original repository's layout",
    "qwen2_vl": "Qwen2-VL, whose images have no fixed number of visual tokens",
    "qwen2_5_vl": "Qwen2.5-VL, whose images have no fixed number of visual tokens",
    "internvl": "InternVL, which cuts an image into tiles",
}
_NAMES = (
    (r"^liuhaotian/", "llava_llama"),
    (r"llava-v?1\.6|llava-next(?!.*video)", "llava_next"),
    (r"vip-?llava", "vipllava"),
    (r"llava-onevision", "llava_onevision"),
)


def why_not_by_name(path: str) -> str | None:
    """The error message for a hub name of an unsupported model; None for other names."""
    if instead := _ORIGINAL.get(path):
        return f"{path} is in the original repository's layout: use {instead}, the same weights in Hugging Face's layout"
    for pattern, kind in _NAMES:
        if re.search(pattern, path, re.IGNORECASE):
            return f"{path} is {_TYPES[kind]}: {_INSTEAD}"
    return None


def why_not(where: str, config: Mapping[str, Any]) -> str | None:
    """The error message for an unsupported config.json; None for a LLaVA-1.5.

    Args:
        where: What messages call the file.
        config: Its content.
    """
    kind = config.get("model_type")
    if "mm_vision_tower" in config or kind == "llava_llama":
        instead = "llava-hf/llava-1.5-13b-hf" if config.get("hidden_size") == 5120 else "llava-hf/llava-1.5-7b-hf"
        return f"{where} is of a LLaVA in the original repository's layout: use {instead}, or convert it with transformers' script"
    if kind != "llava":
        said = f" ({_TYPES[kind]})" if kind in _TYPES else ""
        return f"{where} is of model type {kind}{said}: {_INSTEAD}"
    if config.get("vision_feature_select_strategy", "default") != "default":
        return f"{where} also passes CLS to the LLM (vision_feature_select_strategy), but only 'default' is supported"
    if not isinstance(config.get("vision_feature_layer", -2), int):
        return f"{where} uses several layers of the vision tower ({config['vision_feature_layer']}): {_INSTEAD}"
    for part, known in (("vision_config", "clip_vision_model"), ("text_config", "llama")):
        inner = (config.get(part) or {}).get("model_type", known)
        if inner != known:
            return f"{where} has a {part} of model type {inner}, but only {known} is supported: {_INSTEAD}"
    return None
