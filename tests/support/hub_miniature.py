"""A miniature of a Hugging Face hub cache: the files and names of the published checkpoints, with llava-tiny's weights inside.

``build_hub(home)`` makes ``home/hub`` with ``llava-hf/llava-1.5-7b-hf`` and ``openai/clip-vit-large-patch14-336`` at the
revisions that ``conf/model`` pins; ``use_hub(monkeypatch, home)`` makes this process read it, ``environment(home)`` a child.
Then, with ``HF_HUB_OFFLINE=1``, ``parbench eval model=llava-1.5-7b model.dtype=float32`` runs. Any other repository, data sets
too, is added with ``add_repository``.

What is as published: file names, names of tensors (the legacy ones), three shards with an index, float16, an untied head, a
``text_config`` that leaves out what is Llama's default, a chat template that reads typed parts only, a CLIP that is a pickle with
``position_ids`` inside and pools its texts at the greatest id. What is not: sizes, and the vocabulary, which is llava-tiny's.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from parbench.models.assets import asset

LLAVA = "llava-hf/llava-1.5-7b-hf"
LLAVA_REVISION = "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"
# An earlier revision, as far as its names go: chat_template.json, no processor_config.json.
EARLY_REVISION = "17b3a43000000000000000000000000000000000"
CLIP = "openai/clip-vit-large-patch14-336"
CLIP_REVISION = "ce19dc912ca5cd21c8a653c79e251e808ccabcd1"

# It renders as the published one does: images first, then texts, of typed parts; of a plain string nothing is left.
TYPED_TEMPLATE = (
    "{% for turn in messages %}"
    "{% if turn['role'] != 'system' %}{{ turn['role'] | upper }}: {% endif %}"
    "{% for part in turn['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{% for part in turn['content'] | selectattr('type', 'equalto', 'text') %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
_SHARDS = 3
# What the hub keeps as large files: their blobs are named by sha256, those of the others by git.
_LARGE = (".safetensors", ".bin", ".h5", ".model", ".parquet")


def add_repository(home: Path, kind: str, name: str, revision: str, files: Mapping[str, bytes]) -> Path:
    """Lay files out as the hub's client does: blobs, refs/main, and a snapshot of links to the blobs.

    Args:
        home: What ``HF_HOME`` will be.
        kind: ``model`` or ``dataset``.
        name: Such as ``org/model``.
        revision: 40 hexadecimal digits.
        files: Content by path in the repository.

    Returns:
        The snapshot's folder.
    """
    root = home / "hub" / f"{kind}s--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / revision
    for path, content in files.items():
        blob = root / "blobs" / blob_name(path, content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text(revision)
    return snapshot


def blob_name(path: str, content: bytes) -> str:
    """The name of a file's blob: sha256 of large files, git's hash of small ones."""
    if path.endswith(_LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def build_hub(home: Path, *, early: bool = False) -> Path:
    """Both checkpoints in a hub cache.

    Args:
        home: What ``HF_HOME`` will be.
        early: The layout of earlier revisions of LLaVA, under ``EARLY_REVISION``.

    Returns:
        ``home``.
    """
    add_repository(home, "model", LLAVA, EARLY_REVISION if early else LLAVA_REVISION, llava_files(early=early))
    add_repository(home, "model", CLIP, CLIP_REVISION, clip_files())
    return home


def use_hub(monkeypatch: Any, home: Path) -> None:
    """Let this process read the hub cache in ``home``; it was told of another one when it started."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))


def environment(home: Path) -> dict[str, str]:
    """What a child process needs to read it, without a network."""
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def llava_files(*, early: bool = False) -> dict[str, bytes]:
    """The files of ``llava-hf/llava-1.5-7b-hf``, by name."""
    source = Path(asset("llava-tiny"))
    files = {
        ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": b"A miniature for tests.\n",
        "added_tokens.json": _json({"<image>": 4, "<pad>": 0}),
        "config.json": _json(_llava_config(json.loads((source / "config.json").read_text()))),
        "generation_config.json": _json(
            {
                "_from_model_config": True,
                "bos_token_id": 1,
                "eos_token_id": 2,
                "pad_token_id": 0,
                "transformers_version": "4.36.0.dev0",
            }
        ),
        "preprocessor_config.json": _json(_image_processor(source)),
        "special_tokens_map.json": _json({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
        "tokenizer.json": (source / "tokenizer.json").read_bytes(),
        # Read where there is no tokenizer.json, which there is.
        "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02",
        "tokenizer_config.json": _json(
            {
                "bos_token": "<s>",
                "clean_up_tokenization_spaces": False,
                "eos_token": "</s>",
                "legacy": False,
                "model_max_length": 1000000000000000019884624838656,
                "pad_token": "<pad>",
                "padding_side": "left",
                "processor_class": "LlavaProcessor",
                "tokenizer_class": "PreTrainedTokenizerFast",
                "unk_token": "<unk>",
                "additional_special_tokens": ["<image>"],
                "model_input_names": ["input_ids", "attention_mask"],
            }
        ),
    }
    if early:
        files["chat_template.json"] = _json({"chat_template": TYPED_TEMPLATE})
    else:
        files["chat_template.jinja"] = TYPED_TEMPLATE.encode()
        files["processor_config.json"] = _json(
            {
                "image_token": "<image>",
                "num_additional_image_tokens": 1,
                "patch_size": 14,
                "processor_class": "LlavaProcessor",
                "vision_feature_select_strategy": "default",
            }
        )
    return files | _shards(_legacy(load_file(source / "model.safetensors")))


def clip_files() -> dict[str, bytes]:
    """The files of ``openai/clip-vit-large-patch14-336``, by name; the weights are in a pickle and nowhere else."""
    source = Path(asset("llava-tiny")) / "clip"
    config = json.loads((source / "config.json").read_text())
    vision, text = _without_defaults(config["vision_config"]), _without_defaults(config["text_config"])
    tensors = load_file(source / "model.safetensors")
    for tower, positions in (("text_model", 77), ("vision_model", 577)):
        tensors[f"{tower}.embeddings.position_ids"] = torch.arange(positions).expand(1, -1)
    stream = io.BytesIO()
    torch.save({name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}, stream)
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    vocabulary = {piece: number for number, (piece, _) in enumerate(tokenizer["model"]["vocab"])}
    vocabulary |= {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    return {
        ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": b"A miniature for tests.\n",
        "config.json": _json(
            {
                "architectures": ["CLIPModel"],
                "initializer_factor": 1.0,
                "logit_scale_init_value": 2.6592,
                "model_type": "clip",
                "projection_dim": config["projection_dim"],
                # The legacy configuration: the tower pools at the greatest id.
                "text_config": {**text, "bos_token_id": 0, "eos_token_id": 2, "model_type": "clip_text_model"},
                "text_config_dict": None,
                "torch_dtype": "float32",
                "transformers_version": "4.21.3",
                "vision_config": {**vision, "model_type": "clip_vision_model"},
                "vision_config_dict": None,
            }
        ),
        "merges.txt": b"#version: 0.2\n",
        "preprocessor_config.json": _json(
            {
                "crop_size": 336,
                "do_center_crop": True,
                "do_normalize": True,
                "do_resize": True,
                "feature_extractor_type": "CLIPFeatureExtractor",
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
                "resample": 3,
                "size": 336,
            }
        ),
        "pytorch_model.bin": stream.getvalue(),
        "special_tokens_map.json": _json({"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<pad>"}),
        "tf_model.h5": b"\x89HDF\r\n\x1a\n",
        "tokenizer.json": (source / "tokenizer.json").read_bytes(),
        "tokenizer_config.json": (source / "tokenizer_config.json").read_bytes(),
        "vocab.json": _json(vocabulary),
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def _llava_config(tiny: dict[str, Any]) -> dict[str, Any]:
    """The keys of the published configuration, and of the sizes those that are not Llama's or CLIP's defaults."""
    text = {
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float16",
        **{
            key: tiny["text_config"][key]
            for key in (
                "max_position_embeddings",
                "rms_norm_eps",
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
            )
        },
    }
    vision = {
        key: value
        for key, value in tiny["vision_config"].items()
        if key
        in (
            "hidden_size",
            "image_size",
            "intermediate_size",
            "model_type",
            "num_attention_heads",
            "num_hidden_layers",
            "patch_size",
            "projection_dim",
        )
    }
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": tiny["image_token_index"],
        "model_type": "llava",
        "pad_token_id": 0,
        "projector_hidden_act": "gelu",
        "text_config": text,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.36.0.dev0",
        "vision_config": {**vision, "vocab_size": tiny["text_config"]["vocab_size"]},
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": tiny["text_config"]["vocab_size"],
    }


def _image_processor(source: Path) -> dict[str, Any]:
    inside = json.loads((source / "processor_config.json").read_text())["image_processor"]
    return {**inside, "processor_class": "LlavaProcessor"}


def _without_defaults(tower: dict[str, Any]) -> dict[str, Any]:
    sizes = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "projection_dim",
        "image_size",
        "patch_size",
        "vocab_size",
        "max_position_embeddings",
    )
    return {key: value for key, value in tower.items() if key in sizes}


def _legacy(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names that the checkpoint was published with, and a head of its own, for it is not tied."""
    named = {}
    for name, value in tensors.items():
        if name.startswith("vision_tower.") and not name.startswith("vision_tower.vision_model."):
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        named[name] = value.half()
    named["language_model.lm_head.weight"] = named["language_model.model.embed_tokens.weight"].clone()
    return named


def _shards(tensors: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    names = sorted(tensors)
    parts = [names[number::_SHARDS] for number in range(_SHARDS)]
    file = "model-{:05d}-of-{:05d}.safetensors".format
    files = {
        file(number + 1, _SHARDS): save({name: tensors[name] for name in part}, metadata={"format": "pt"})
        for number, part in enumerate(parts)
    }
    index = {
        "metadata": {"total_size": sum(value.nbytes for value in tensors.values())},
        "weight_map": {name: file(number + 1, _SHARDS) for number, part in enumerate(parts) for name in part},
    }
    return files | {"model.safetensors.index.json": _json(index)}
