"""Tiny random models of every family with Hugging Face's own processors, made in a moment and without files.

Each function gives a model, its processor and what stands for an image in a prompt. ``FAMILIES`` has them all by name. The
vocabulary is llava-tiny's and the family's special tokens. Hidden size 64, six LLM layers, four heads of which two are key heads;
three or four vision blocks of width 48; tiles of 56 x 56 pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText

from parbench.models.processors import build_processor
from parbench.models.special_tokens import SPECIAL_TOKENS, small_tokenizer, take_ids

_WIDTH = 64
_SIDE = 56
_TEXT = {
    "hidden_size": _WIDTH,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_VISION = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
_SQUARE = {**_VISION, "image_size": _SIDE, "patch_size": 14}
# What CLIP's image processor and its descendants need.
_CROPPED = {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}}
_CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


class Member(NamedTuple):
    """A family's tiny model.

    Attributes:
        model: In evaluation mode, float32, on the CPU.
        processor: Its processor.
        placeholder: What a prompt contains for an image.
    """

    model: Any
    processor: Any
    placeholder: str


def llava(attention: str = "sdpa") -> Member:
    return _member(
        "llava",
        attention,
        vision={"model_type": "clip_vision_model", **_SQUARE},
        text={"model_type": "llama"},
        processor={"image_processor_type": "CLIPImageProcessor", **_CROPPED, **_CLIP},
        vision_feature_layer=-2,
    )


def llava_next(attention: str = "sdpa") -> Member:
    grids = _grids((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
    return _member(
        "llava_next",
        attention,
        vision={"model_type": "clip_vision_model", **_SQUARE},
        text={"model_type": "mistral", "sliding_window": None},
        processor={**_CROPPED, **_CLIP, "image_grid_pinpoints": grids},
        image_grid_pinpoints=grids,
        vision_feature_layer=-2,
    )


def llava_next_video(attention: str = "sdpa") -> Member:
    grids = _grids((1, 2), (2, 1), (2, 2))
    return _member(
        "llava_next_video",
        attention,
        vision={"model_type": "clip_vision_model", **_SQUARE},
        text={"model_type": "llama"},
        processor={**_CROPPED, **_CLIP, "image_grid_pinpoints": grids},
        image_grid_pinpoints=grids,
        vision_feature_layer=-2,
        spatial_pool_mode="average",
        spatial_pool_stride=2,
    )


def llava_onevision(attention: str = "sdpa") -> Member:
    grids = _grids(*((rows, columns) for rows in range(1, 5) for columns in range(1, 5)))
    shared = {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_4"}
    return _member(
        "llava_onevision",
        attention,
        vision={"model_type": "siglip_vision_model", "vision_use_head": False, **_SQUARE},
        text={"model_type": "qwen2"},
        processor={
            "size": {"height": _SIDE, "width": _SIDE},
            "image_grid_pinpoints": grids,
            "num_image_tokens": 16,
            **shared,
        },
        image_grid_pinpoints=grids,
        vision_feature_layer=-1,
        **shared,
    )


def qwen2_vl(attention: str = "sdpa") -> Member:
    return _qwen(
        "qwen2_vl",
        attention,
        vision={"depth": 3, "embed_dim": 48, "hidden_size": _WIDTH, "mlp_ratio": 2, "patch_size": 14},
    )


def qwen2_5_vl(attention: str = "sdpa") -> Member:
    return _qwen(
        "qwen2_5_vl",
        attention,
        vision={
            "depth": 4,
            "hidden_size": 48,
            "intermediate_size": 96,
            "out_hidden_size": _WIDTH,
            "patch_size": 14,
            "window_size": 56,
            "fullatt_block_indexes": [1, 3],
            "tokens_per_second": 2,
        },
    )


def qwen3_vl(attention: str = "sdpa") -> Member:
    return _qwen(
        "qwen3_vl",
        attention,
        vision={
            "depth": 4,
            "hidden_size": 48,
            "intermediate_size": 96,
            "out_hidden_size": _WIDTH,
            "patch_size": 16,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        text={"head_dim": 16},
        rope={"mrope_interleaved": True},
    )


def internvl(attention: str = "sdpa") -> Member:
    return _member(
        "internvl",
        attention,
        vision={**_VISION, "image_size": [_SIDE, _SIDE], "patch_size": [14, 14]},
        text={"model_type": "qwen2"},
        processor={
            "size": {"height": _SIDE, "width": _SIDE},
            "crop_to_patches": True,
            "min_patches": 1,
            "max_patches": 6,
            "image_seq_length": 4,
        },
        image_seq_length=4,
        downsample_ratio=0.5,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )


def idefics3(attention: str = "sdpa") -> Member:
    return _tiled("idefics3", attention)


def smolvlm(attention: str = "sdpa") -> Member:
    return _tiled("smolvlm", attention)


def gemma3(attention: str = "sdpa") -> Member:
    member = _member(
        "gemma3",
        attention,
        vision={"model_type": "siglip_vision_model", "vision_use_head": False, **_SQUARE},
        text={"head_dim": 16, "sliding_window": 32, "query_pre_attn_scalar": 16},
        processor={
            "size": {"height": _SIDE, "width": _SIDE},
            "do_pan_and_scan": False,
            "image_seq_length": 4,
        },
        mm_tokens_per_image=4,
    )
    # Zero when a model is created, so that all visual tokens would be equal.
    torch.manual_seed(1)
    torch.nn.init.normal_(member.model.model.multi_modal_projector.mm_input_projection_weight, std=0.1)
    return member


FAMILIES: dict[str, Callable[..., Member]] = {
    made.__name__: made
    for made in (
        llava,
        llava_next,
        llava_onevision,
        llava_next_video,
        qwen2_vl,
        qwen2_5_vl,
        qwen3_vl,
        internvl,
        idefics3,
        smolvlm,
        gemma3,
    )
}


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random squares of about 14 pixels."""
    generator = np.random.default_rng(seed)
    squares = generator.integers(0, 256, (max(2, height // 14), max(2, width // 14), 3), dtype=np.uint8)
    return Image.fromarray(squares).resize((width, height), Image.Resampling.NEAREST)


def _qwen(
    model_type: str,
    attention: str,
    *,
    vision: dict[str, Any],
    text: dict[str, Any] | None = None,
    rope: dict[str, Any] | None = None,
) -> Member:
    unit = 2 * vision["patch_size"]
    return _member(
        model_type,
        attention,
        vision={"num_heads": 4, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision},
        text={
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0, **(rope or {})},
            **(text or {}),
        },
        processor={
            "min_pixels": 4 * unit**2,
            "max_pixels": 400 * unit**2,
            "patch_size": vision["patch_size"],
            "merge_size": 2,
            "temporal_patch_size": 2,
        },
    )


def _tiled(model_type: str, attention: str) -> Member:
    return _member(
        model_type,
        attention,
        vision=_SQUARE,
        text={"model_type": "llama"},
        processor={
            "size": {"longest_edge": 3 * _SIDE},
            "max_image_size": {"longest_edge": _SIDE},
            "do_image_splitting": True,
            "image_seq_len": 4,
        },
        scale_factor=2,
    )


def _grids(*shapes: tuple[int, int]) -> list[list[int]]:
    return [[rows * _SIDE, columns * _SIDE] for rows, columns in shapes]


def _member(
    model_type: str, attention: str, *, vision: dict[str, Any], text: dict[str, Any], processor: dict[str, Any], **other: Any
) -> Member:
    tokenizer = small_tokenizer(model_type)
    config = AutoConfig.for_model(
        model_type, vision_config=dict(vision), text_config={**_TEXT, "vocab_size": len(tokenizer), **text}, **other
    )
    take_ids(config, tokenizer)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, attn_implementation=attention).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            # Of the size of trained weights, so that answers depend on the image.
            parameter.mul_(4.0)
    model.generation_config.eos_token_id = 2
    model.generation_config.pad_token_id = 0
    return Member(model, build_processor(config, tokenizer, processor), SPECIAL_TOKENS[model_type].placeholder)
