"""Which families of models parbench opens, and what to use instead of others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

# By model type in config.json: the family's name, and a model of conf/model.
SUPPORTED = {
    "llava": ("LLaVA-1.5", "llava-1.5-7b"),
    "llava_next": ("LLaVA-NeXT", "llava-next-7b"),
    "llava_next_video": ("LLaVA-NeXT-Video", None),
    "llava_onevision": ("LLaVA-OneVision", "llava-onevision-7b"),
    "qwen2_vl": ("Qwen2-VL", "qwen2-vl-7b"),
    "qwen2_5_vl": ("Qwen2.5-VL", "qwen2.5-vl-7b"),
    "qwen3_vl": ("Qwen3-VL", "qwen3-vl-8b"),
    "internvl": ("InternVL", "internvl3-8b"),
    "idefics3": ("Idefics3", "idefics3-8b"),
    "smolvlm": ("SmolVLM", "smolvlm2-2.2b"),
    "gemma3": ("Gemma 3", "gemma3-4b"),
}
# By model type: what it is and why it is not opened, and the nearest family.
_REFUSED = {
    "video_llava": ("Video-LLaVA, whose images need torchvision", "llava_next_video"),
    "paligemma": ("PaliGemma, whose prompt and image see each other both ways", "gemma3"),
    "gemma3n": ("Gemma 3n, whose vision tower is a convolutional network", "gemma3"),
    "gemma4": ("Gemma 4, whose layers share keys and values", "gemma3"),
    "gemma4_unified": ("Gemma 4, whose layers share keys and values", "gemma3"),
    "qwen3_5": ("Qwen3.5, some of whose layers keep no keys and values of tokens", "qwen3_vl"),
    "qwen3_5_moe": ("Qwen3.5, some of whose layers keep no keys and values of tokens", "qwen3_vl"),
    "mllama": ("Llama 3.2 Vision, whose LLM reads images by cross-attention and not as tokens", "llava_next"),
    "idefics2": ("Idefics2, whose images are summarised by a perceiver", "idefics3"),
    "internvl_chat": ("an InternVL in the original repository's layout; those in Hugging Face's layout end in -hf", "internvl"),
}
_ORIGINAL = {
    "liuhaotian/llava-v1.5-7b": "llava-hf/llava-1.5-7b-hf",
    "liuhaotian/llava-v1.5-13b": "llava-hf/llava-1.5-13b-hf",
    "liuhaotian/llava-v1.6-vicuna-7b": "llava-hf/llava-v1.6-vicuna-7b-hf",
    "liuhaotian/llava-v1.6-vicuna-13b": "llava-hf/llava-v1.6-vicuna-13b-hf",
    "liuhaotian/llava-v1.6-mistral-7b": "llava-hf/llava-v1.6-mistral-7b-hf",
    "lmms-lab/llava-onevision-qwen2-0.5b-ov": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    "lmms-lab/llava-onevision-qwen2-7b-ov": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
}
# What parbench uses of a model of any family, and what models have whose positions it does not know.
_MECHANICS = ("get_image_features", "get_placeholder_mask")
_OWN_POSITIONS = "get_rope_index"


def why_not_by_name(path: str) -> str | None:
    """The error message for a hub name of an unsupported model; None for other names."""
    instead = _ORIGINAL.get(path)
    if instead is None and re.fullmatch(r"OpenGVLab/InternVL3(_5)?-\d+B(-Instruct)?", path):
        instead = f"{path.removesuffix('-Instruct')}-hf"
    if instead:
        return f"{path} is in the original repository's layout: use {instead}, the same weights in Hugging Face's layout"
    if re.match(r"(liuhaotian|lmms-lab)/llava", path, re.IGNORECASE):
        return f"{path} is in the original repository's layout: {_instead('llava')}"
    return None


def why_not(where: str, config: Mapping[str, Any]) -> str | None:
    """The error message for an unsupported config.json; None for a supported one.

    Args:
        where: What messages call the file.
        config: Its content.
    """
    kind = config.get("model_type")
    if "mm_vision_tower" in config or kind == "llava_llama":
        instead = "llava-hf/llava-1.5-13b-hf" if config.get("hidden_size") == 5120 else "llava-hf/llava-1.5-7b-hf"
        return f"{where} is of a LLaVA in the original repository's layout: use {instead}, or convert it with transformers' script"
    if kind in SUPPORTED:
        check = _FURTHER.get(kind)
        return check(where, config) if check else None
    return None if is_generic(kind) else _refused(where, str(kind))


def is_generic(kind: str | None) -> bool:
    """Whether models of a type that parbench does not know have what it needs of any family.

    That is: transformers has a class for it that makes an image's features in a step of its own and puts them in place of tokens
    of the prompt, whose positions are plain numbers. A loaded model is checked further by ``models.families``.
    """
    from transformers import CONFIG_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, MODEL_MAPPING

    if kind in SUPPORTED or kind in _REFUSED or kind not in CONFIG_MAPPING:
        return False
    config = CONFIG_MAPPING[kind]
    if config not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING or config not in MODEL_MAPPING:
        return False
    inner = MODEL_MAPPING[config]
    return all(hasattr(inner, name) for name in _MECHANICS) and not hasattr(inner, _OWN_POSITIONS)


def _why_not_llava(where: str, config: Mapping[str, Any]) -> str | None:
    if config.get("vision_feature_select_strategy", "default") != "default":
        return f"{where} also passes CLS to the LLM (vision_feature_select_strategy), but only 'default' is supported"
    if not isinstance(config.get("vision_feature_layer", -2), int):
        return f"{where} uses several layers of the vision tower ({config['vision_feature_layer']}): {_instead('llava')}"
    for part, known in (("vision_config", "clip_vision_model"), ("text_config", "llama")):
        inner = (config.get(part) or {}).get("model_type", known)
        if inner != known:
            return f"{where} has a {part} of model type {inner}, but only {known} is supported: {_instead('llava')}"
    return None


# What else a config.json of a supported type is checked for.
_FURTHER = {"llava": _why_not_llava}


def _refused(where: str, kind: str) -> str:
    what, nearest = _REFUSED.get(kind, ("", ""))
    said = f" ({what})" if what else ""
    return f"{where} is of model type {kind}{said}, which parbench does not open: {_instead(nearest or _nearest(kind))}"


def _nearest(kind: str) -> str:
    close = get_close_matches(kind, SUPPORTED, 1, cutoff=0.5)
    return close[0] if close else "llava"


def _instead(kind: str) -> str:
    title, name = SUPPORTED[kind]
    return f"the nearest family that it opens is {title}" + (f", such as model={name}" if name else "")
