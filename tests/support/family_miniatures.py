"""Miniatures of published checkpoints of other families than LLaVA-1.5: files and names as on the hub, tiny random weights inside.

``write(name, folder)`` writes the miniature of the model of that name in ``conf/model``; ``NAMES`` has all. Then ``parbench eval
model=NAME model.path=FOLDER model.dtype=float32`` runs.

What is as published: file names, names and dtype of the stored tensors, shards or a single file, heads that are left out because
they are tied, keys of the configurations (flat ones, ``rope_scaling``, ``torch_dtype``), processor files, chat templates that read
what the published ones read. What is not: sizes, tiles of 56 x 56 pixels, and the vocabulary, which is llava-tiny's with special
tokens. ``hub_miniature`` has LLaVA-1.5's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText

from hub_miniature import TYPED_TEMPLATE
from parbench.models.special_tokens import SPECIAL_TOKENS, small_tokenizer

_TILE = 56
_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_HALF = [0.5, 0.5, 0.5]
_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
_TOWER = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
_SQUARE = {**_TOWER, "image_size": _TILE, "patch_size": 14}
_STEPS = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255}

# What the names of tensors begin with in transformers, and on the hub.
_LLAVA_NAMES = {
    "model.language_model.": "language_model.model.",
    "lm_head.": "language_model.lm_head.",
    "model.vision_tower.": "vision_tower.vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
    "model.image_newline": "image_newline",
}
_QWEN_NAMES = {"model.visual.": "visual.", "model.language_model.": "model."}

_TURN = "<|im_start|>{{ turn['role'] }}\n"
_MISTRAL_TEMPLATE = (
    "{% for turn in messages %}[INST] "
    "{% for part in turn['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in turn['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %} [/INST]{% endfor %}"
)
_ONEVISION_TEMPLATE = (
    "{% for turn in messages %}" + _TURN + "{% for part in turn['content'] | selectattr('type', 'equalto', 'image') %}<image>\n"
    "{% endfor %}{% for part in turn['content'] | selectattr('type', 'equalto', 'video') %}<video>\n{% endfor %}"
    "{% for part in turn['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_INLINE = (
    "{% if turn['content'] is string %}{{ turn['content'] }}{% else %}{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}PLACEHOLDER{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
)
_CHATML = "{% for turn in messages %}" + _TURN + _INLINE + "<|im_end|>\n{% endfor %}"
_ASSISTANT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_SYSTEM = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
_QWEN_INLINE = _CHATML.replace(
    "PLACEHOLDER", _QWEN_IMAGE + "{% elif part['type'] == 'video' %}" + _QWEN_IMAGE.replace("image", "video")
)
_SMOL_TEMPLATE = (
    "<|im_start|>{% for turn in messages %}{{ turn['role'] | capitalize }}:"
    "{% if turn['content'][0]['type'] != 'image' %} {% endif %}"
    + _INLINE.replace("PLACEHOLDER", "<image>")
    + "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
_GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<start_of_turn>{{ 'model' if turn['role'] == 'assistant' else turn['role'] }}\n"
    + _INLINE.replace("PLACEHOLDER", "<start_of_image>")
    + "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


@dataclass(frozen=True)
class Checkpoint:
    """What a repository contains.

    Attributes:
        config: The content of config.json without ids of tokens.
        template: The chat template.
        files: Further JSON files by name.
        names: Beginnings of tensors' names in transformers, and on the hub.
        dtype: That of the stored tensors.
        shards: Number of weight files; one has no index.
        head: Whether the LLM's head is stored; without it, it is tied to the embeddings.
        jinja: Whether the template is in chat_template.jinja instead of chat_template.json.
        tokens: Special tokens beyond the family's.
    """

    config: dict[str, Any]
    template: str
    files: dict[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype = torch.float16
    shards: int = 1
    head: bool = True
    jinja: bool = False
    tokens: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The model type whose special tokens it has."""
        kind = str(self.config["model_type"])
        return kind if kind in SPECIAL_TOKENS else "llava"


def write(name: str, folder: Path) -> Path:
    """Write the miniature of a model in ``conf/model`` into a folder.

    Returns:
        The folder.
    """
    return write_checkpoint(_CHECKPOINTS[name](), folder)


def write_checkpoint(made: Checkpoint, folder: Path) -> Path:
    """Write a checkpoint into a folder.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _write_tokenizer(made, folder)
    if made.jinja:
        (folder / "chat_template.jinja").write_text(made.template)
    else:
        _json(folder / "chat_template.json", {"chat_template": made.template})
    for file, content in made.files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        _json(folder / file, content)
    _json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    _json(folder / "config.json", _with_ids(made, tokenizer))
    _write_weights(made, folder)
    return folder


def hub_name(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name on the hub."""
    for ours, theirs in names.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def config_of(name: str) -> dict[str, Any]:
    """The configuration of a miniature, without ids of tokens."""
    return _CHECKPOINTS[name]().config


def names_of(name: str) -> Mapping[str, str]:
    """Beginnings of tensors' names in transformers and on the hub, of a miniature."""
    return _CHECKPOINTS[name]().names


def _write_tokenizer(made: Checkpoint, folder: Path) -> Any:
    tokens = SPECIAL_TOKENS[made.family]
    tokenizer = small_tokenizer(made.family)
    tokenizer.add_special_tokens({"extra_special_tokens": list(made.tokens)}, replace_extra_special_tokens=False)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    said = json.loads(path.read_text())
    for gone in ("extra_special_tokens", "model_specific_special_tokens", *tokens.named):
        said.pop(gone, None)
    # Where the processor asks the tokenizer for tokens by name, the published file names them.
    asked = made.family in ("internvl", "gemma3")
    said |= {"extra_special_tokens": dict(tokens.named)} if asked else {"additional_special_tokens": list(made.tokens)}
    _json(path, said)
    _json(folder / "special_tokens_map.json", {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    return tokenizer


def _with_ids(made: Checkpoint, tokenizer: Any) -> dict[str, Any]:
    """The configuration with the ids of this vocabulary, in the keys that the published one has."""
    tokens = SPECIAL_TOKENS[made.family]
    ids = {"image_token_id": tokens.image, **tokens.ids}
    if made.family in ("llava_next", "llava_onevision", "gemma3"):
        ids = {key.replace("token_id", "token_index"): token for key, token in ids.items()}
    found = {key: tokenizer.convert_tokens_to_ids(token) for key, token in ids.items()}
    vocabulary = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if "text_config" not in made.config:
        return {**made.config, **vocabulary, **found}
    return {**made.config, **found, "text_config": {**made.config["text_config"], **vocabulary}}


def _write_weights(made: Checkpoint, folder: Path) -> None:
    config = AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                # Of the size of trained weights, so that answers depend on the image; zeros would hide it.
                parameter.data = parameter.data * 4 if parameter.any() else torch.randn_like(parameter) / 10
    tensors = {
        hub_name(name, made.names): value.detach().to(made.dtype).contiguous()
        for name, value in model.state_dict().items()
        if made.head or name != "lm_head.weight"
    }
    if made.shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    names = sorted(tensors)
    places = {}
    for shard in range(made.shards):
        file = f"model-{shard + 1:05}-of-{made.shards:05}.safetensors"
        part = names[shard * len(names) // made.shards : (shard + 1) * len(names) // made.shards]
        save_file({name: tensors[name] for name in part}, folder / file, {"format": "pt"})
        places |= dict.fromkeys(part, file)
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    _json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": places})


def _llava_next(text: dict[str, Any], template: str, shards: int) -> Checkpoint:
    grids = [[rows * _TILE, columns * _TILE] for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]
    return Checkpoint(
        config={
            "architectures": ["LlavaNextForConditionalGeneration"],
            "image_grid_pinpoints": grids,
            "model_type": "llava_next",
            "projector_hidden_act": "gelu",
            "text_config": {**_TEXT, **text},
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "use_image_newline_parameter": True,
            "vision_config": {"model_type": "clip_vision_model", "projection_dim": 32, "vocab_size": 32000, **_SQUARE},
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
        },
        template=template,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "aspect_ratio_setting": "anyres",
                "crop_size": {"height": _TILE, "width": _TILE},
                "do_center_crop": True,
                "do_pad": True,
                "image_grid_pinpoints": grids,
                "image_mean": _CLIP_MEAN,
                "image_processor_type": "LlavaNextImageProcessor",
                "image_std": _CLIP_STD,
                "resample": 3,
                "size": {"shortest_edge": _TILE},
            },
            "processor_config.json": {
                "image_token": "<image>",
                "num_additional_image_tokens": 1,
                "patch_size": 14,
                "processor_class": "LlavaNextProcessor",
                "vision_feature_select_strategy": "default",
            },
            "added_tokens.json": {"<image>": 4, "<pad>": 0},
        },
        names=_LLAVA_NAMES,
        shards=shards,
    )


def llava_next_7b() -> Checkpoint:
    """``llava-hf/llava-v1.6-vicuna-7b-hf``."""
    return _llava_next({"model_type": "llama", "num_key_value_heads": 4}, TYPED_TEMPLATE, 3)


def llava_next_mistral_7b() -> Checkpoint:
    """``llava-hf/llava-v1.6-mistral-7b-hf``."""
    return _llava_next({"model_type": "mistral", "sliding_window": None, "rope_theta": 1000000.0}, _MISTRAL_TEMPLATE, 4)


def _onevision(tied: bool, shards: int) -> Checkpoint:
    grids = [[rows * _TILE, columns * _TILE] for rows in range(1, 7) for columns in range(1, 7)]
    return Checkpoint(
        config={
            "architectures": ["LlavaOnevisionForConditionalGeneration"],
            "image_grid_pinpoints": grids,
            "model_type": "llava_onevision",
            "projector_hidden_act": "gelu",
            "text_config": {
                **_TEXT,
                "model_type": "qwen2",
                "rope_theta": 1000000.0,
                "tie_word_embeddings": tied,
                "torch_dtype": "bfloat16",
            },
            **({} if tied else {"tie_word_embeddings": False}),
            "torch_dtype": "float16",
            "use_image_newline_parameter": True,
            "vision_aspect_ratio": "anyres_max_9",
            "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **_SQUARE},
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        },
        template=_ONEVISION_TEMPLATE,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "do_pad": True,
                "image_grid_pinpoints": grids,
                "image_mean": _HALF,
                "image_processor_type": "LlavaOnevisionImageProcessor",
                "image_std": _HALF,
                "processor_class": "LlavaOnevisionProcessor",
                "resample": 3,
                "size": {"height": _TILE, "width": _TILE},
            },
            "processor_config.json": {
                "image_token": "<image>",
                "num_image_tokens": 16,
                "processor_class": "LlavaOnevisionProcessor",
                "video_token": "<video>",
                "vision_feature_select_strategy": "full",
            },
            "video_processor/preprocessor_config.json": {
                **_STEPS,
                "image_mean": _HALF,
                "image_processor_type": "LlavaOnevisionVideoProcessor",
                "image_std": _HALF,
                "size": {"height": _TILE, "width": _TILE},
            },
        },
        names=_LLAVA_NAMES,
        shards=shards,
        head=not tied,
        tokens=("<|im_start|>", "<|im_end|>"),
    )


def llava_onevision_05b() -> Checkpoint:
    """``llava-hf/llava-onevision-qwen2-0.5b-ov-hf``: no head is stored, and only ``text_config`` says so."""
    return _onevision(tied=True, shards=1)


def llava_onevision_7b() -> Checkpoint:
    """``llava-hf/llava-onevision-qwen2-7b-ov-hf``."""
    return _onevision(tied=False, shards=4)


def _qwen(kind: str, title: str, vision: dict[str, Any], *, tied: bool, shards: int) -> Checkpoint:
    """Qwen2-VL and Qwen2.5-VL, whose configurations have the text's fields at the top."""
    return Checkpoint(
        config={
            "architectures": [f"{title}ForConditionalGeneration"],
            "attention_dropout": 0.0,
            "hidden_act": "silu",
            **_TEXT,
            "max_window_layers": 6,
            "model_type": kind,
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": tied,
            "torch_dtype": "bfloat16",
            "use_sliding_window": False,
            "vision_config": vision,
        },
        template=_SYSTEM + _QWEN_INLINE + _ASSISTANT,
        files={
            "preprocessor_config.json": {
                "image_mean": _CLIP_MEAN,
                "image_processor_type": "Qwen2VLImageProcessor",
                "image_std": _CLIP_STD,
                "max_pixels": 12845056,
                "merge_size": 2,
                "min_pixels": 3136,
                "patch_size": 14,
                "processor_class": f"{title}Processor",
                "temporal_patch_size": 2,
            }
        },
        names=_QWEN_NAMES,
        dtype=torch.bfloat16,
        shards=shards,
        head=not tied,
        tokens=("<|im_start|>", "<|im_end|>"),
    )


def qwen2_vl_7b() -> Checkpoint:
    """``Qwen/Qwen2-VL-7B-Instruct``."""
    vision = {
        "depth": 3,
        "embed_dim": 48,
        "hidden_size": 64,
        "in_chans": 3,
        "mlp_ratio": 2,
        "num_heads": 4,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
    }
    return _qwen("qwen2_vl", "Qwen2VL", vision, tied=False, shards=5)


def _qwen25(*, tied: bool, shards: int) -> Checkpoint:
    vision = {
        "depth": 4,
        "fullatt_block_indexes": [1, 3],
        "hidden_act": "silu",
        "hidden_size": 48,
        "in_chans": 3,
        "intermediate_size": 96,
        "num_heads": 4,
        "out_hidden_size": 64,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "spatial_patch_size": 14,
        "temporal_patch_size": 2,
        "tokens_per_second": 2,
        "window_size": 112,
    }
    return _qwen("qwen2_5_vl", "Qwen2_5_VL", vision, tied=tied, shards=shards)


def qwen25_vl_3b() -> Checkpoint:
    """``Qwen/Qwen2.5-VL-3B-Instruct``: no head is stored."""
    return _qwen25(tied=True, shards=2)


def qwen25_vl_7b() -> Checkpoint:
    """``Qwen/Qwen2.5-VL-7B-Instruct``."""
    return _qwen25(tied=False, shards=5)


def _qwen3(*, tied: bool, shards: int) -> Checkpoint:
    size = {"shortest_edge": 65536, "longest_edge": 16777216}
    images = {
        "image_mean": _HALF,
        "image_std": _HALF,
        "merge_size": 2,
        "patch_size": 16,
        "processor_class": "Qwen3VLProcessor",
        "size": size,
        "temporal_patch_size": 2,
    }
    return Checkpoint(
        config={
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "text_config": {
                **_TEXT,
                "attention_bias": False,
                "dtype": "bfloat16",
                "head_dim": 16,
                "hidden_act": "silu",
                "model_type": "qwen3_vl_text",
                "rms_norm_eps": 1e-06,
                "rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 3, 3], "rope_type": "default"},
                "rope_theta": 5000000,
                "tie_word_embeddings": tied,
            },
            "tie_word_embeddings": tied,
            "vision_config": {
                "deepstack_visual_indexes": [0, 1, 2],
                "depth": 4,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": 48,
                "in_channels": 3,
                "intermediate_size": 96,
                "model_type": "qwen3_vl",
                "num_heads": 4,
                "num_position_embeddings": 64,
                "out_hidden_size": 64,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
        },
        template=_QWEN_INLINE + _ASSISTANT,
        files={
            "preprocessor_config.json": {**images, "image_processor_type": "Qwen2VLImageProcessorFast"},
            "video_preprocessor_config.json": {
                **images,
                "size": {"longest_edge": 25165824, "shortest_edge": 4096},
                "video_processor_type": "Qwen3VLVideoProcessor",
            },
        },
        dtype=torch.bfloat16,
        shards=shards,
        head=not tied,
        tokens=("<|im_start|>", "<|im_end|>"),
    )


def qwen3_vl_4b() -> Checkpoint:
    """``Qwen/Qwen3-VL-4B-Instruct``: no head is stored."""
    return _qwen3(tied=True, shards=2)


def qwen3_vl_8b() -> Checkpoint:
    """``Qwen/Qwen3-VL-8B-Instruct``."""
    return _qwen3(tied=False, shards=4)


def _internvl(shards: int) -> Checkpoint:
    names = {**_LLAVA_NAMES, "model.vision_tower.": "vision_tower."}
    return Checkpoint(
        config={
            "architectures": ["InternVLForConditionalGeneration"],
            "downsample_ratio": 0.5,
            "image_seq_length": 4,
            "model_type": "internvl",
            "projector_hidden_act": "gelu",
            "text_config": {
                **_TEXT,
                "model_type": "qwen2",
                "rope_scaling": {"factor": 2.0, "rope_type": "dynamic"},
                "rope_theta": 1000000.0,
                "torch_dtype": "bfloat16",
            },
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "vision_config": {
                **_TOWER,
                "attention_bias": True,
                "image_size": [_TILE, _TILE],
                "model_type": "internvl_vision",
                "norm_type": "layer_norm",
                "patch_size": [14, 14],
                "use_qk_norm": False,
            },
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "default",
        },
        template=_CHATML.replace("PLACEHOLDER", "<IMG_CONTEXT>\n") + _ASSISTANT,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "crop_size": None,
                # The processor asks for patches itself.
                "crop_to_patches": False,
                "image_mean": [0.485, 0.456, 0.406],
                "image_processor_type": "GotOcr2ImageProcessorFast",
                "image_std": [0.229, 0.224, 0.225],
                "max_patches": 12,
                "min_patches": 1,
                "processor_class": "InternVLProcessor",
                "resample": 3,
                "size": {"height": _TILE, "width": _TILE},
            },
            "processor_config.json": {"image_seq_length": 4, "processor_class": "InternVLProcessor"},
        },
        names=names,
        dtype=torch.bfloat16,
        shards=shards,
        jinja=True,
        tokens=("<|im_start|>", "<|im_end|>"),
    )


def internvl3_2b() -> Checkpoint:
    """``OpenGVLab/InternVL3-2B-hf``."""
    return _internvl(1)


def internvl3_8b() -> Checkpoint:
    """``OpenGVLab/InternVL3-8B-hf``."""
    return _internvl(4)


def smolvlm2() -> Checkpoint:
    """``HuggingFaceTB/SmolVLM2-2.2B-Instruct``, stored in float32."""
    return Checkpoint(
        config={
            "architectures": ["SmolVLMForConditionalGeneration"],
            "model_type": "smolvlm",
            "scale_factor": 2,
            "text_config": {**_TEXT, "head_dim": 16, "model_type": "llama", "num_key_value_heads": 4, "torch_dtype": "bfloat16"},
            "tie_word_embeddings": False,
            "torch_dtype": "float32",
            "vision_config": {**_SQUARE, "model_type": "smolvlm_vision", "max_image_size": {"longest_edge": _TILE}},
        },
        template=_SMOL_TEMPLATE,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "do_image_splitting": True,
                "do_pad": True,
                "image_mean": _HALF,
                "image_processor_type": "SmolVLMImageProcessor",
                "image_std": _HALF,
                "max_image_size": {"longest_edge": _TILE},
                "processor_class": "SmolVLMProcessor",
                "resample": 1,
                "size": {"longest_edge": 4 * _TILE},
                "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": _TILE}},
            },
            "processor_config.json": {"image_seq_len": 4, "processor_class": "SmolVLMProcessor"},
        },
        dtype=torch.float32,
        shards=2,
        tokens=("<|im_start|>",),
    )


def gemma3_4b() -> Checkpoint:
    """``google/gemma-3-4b-it``: no head is stored."""
    return Checkpoint(
        config={
            "architectures": ["Gemma3ForConditionalGeneration"],
            "mm_tokens_per_image": 4,
            "model_type": "gemma3",
            "text_config": {
                **_TEXT,
                "head_dim": 16,
                "model_type": "gemma3_text",
                "query_pre_attn_scalar": 16,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 32,
            },
            "torch_dtype": "bfloat16",
            "vision_config": {"model_type": "siglip_vision_model", "vision_use_head": False, **_SQUARE},
        },
        template=_GEMMA_TEMPLATE,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "do_convert_rgb": None,
                "do_pan_and_scan": None,
                "image_mean": _HALF,
                "image_processor_type": "Gemma3ImageProcessor",
                "image_seq_length": 4,
                "image_std": _HALF,
                "processor_class": "Gemma3Processor",
                "resample": 2,
                "size": {"height": _TILE, "width": _TILE},
            },
            "processor_config.json": {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        },
        names=_LLAVA_NAMES,
        dtype=torch.bfloat16,
        shards=2,
        head=False,
        tokens=("<start_of_turn>", "<end_of_turn>"),
    )


def vip_llava() -> Checkpoint:
    """``llava-hf/vip-llava-7b-hf``, of a model type that parbench does not know and that works like those it knows."""
    return Checkpoint(
        config={
            "architectures": ["VipLlavaForConditionalGeneration"],
            "model_type": "vipllava",
            "text_config": {**_TEXT, "model_type": "llama"},
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "vision_config": {"model_type": "clip_vision_model", "projection_dim": 32, **_SQUARE},
            "vision_feature_layers": [-1, -2, -3],
        },
        template=TYPED_TEMPLATE,
        files={
            "preprocessor_config.json": {
                **_STEPS,
                "crop_size": {"height": _TILE, "width": _TILE},
                "do_center_crop": True,
                "image_mean": _CLIP_MEAN,
                "image_processor_type": "CLIPImageProcessor",
                "image_std": _CLIP_STD,
                "processor_class": "LlavaProcessor",
                "resample": 3,
                "size": {"shortest_edge": _TILE},
            },
            "processor_config.json": {
                "num_additional_image_tokens": 1,
                "patch_size": 14,
                "processor_class": "LlavaProcessor",
                "vision_feature_select_strategy": "default",
            },
        },
        names=_LLAVA_NAMES,
    )


_CHECKPOINTS: dict[str, Callable[[], Checkpoint]] = {
    "llava-next-7b": llava_next_7b,
    "llava-next-mistral-7b": llava_next_mistral_7b,
    "llava-onevision-0.5b": llava_onevision_05b,
    "llava-onevision-7b": llava_onevision_7b,
    "qwen2-vl-7b": qwen2_vl_7b,
    "qwen2.5-vl-3b": qwen25_vl_3b,
    "qwen2.5-vl-7b": qwen25_vl_7b,
    "qwen3-vl-4b": qwen3_vl_4b,
    "qwen3-vl-8b": qwen3_vl_8b,
    "internvl3-2b": internvl3_2b,
    "internvl3-8b": internvl3_8b,
    "smolvlm2-2.2b": smolvlm2,
    "gemma3-4b": gemma3_4b,
}
NAMES = tuple(_CHECKPOINTS)


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False))
