"""Models of given sizes with random weights, for measuring time and memory. Their answers are meaningless."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from parbench.errors import ParbenchError
from parbench.models.assets import asset
from parbench.models.configs import config_of
from parbench.models.construction import building
from parbench.models.devices import resolve_device, resolve_dtype
from parbench.models.loading import check_clip_config, locate, locate_clip
from parbench.models.processors import build_processor, limit_pixels, load_processor, pixel_limits
from parbench.models.silence import quiet_transformers
from parbench.models.special_tokens import small_tokenizer, take_ids
from parbench.models.text import ClipSpace

# Without a checkpoint there is no vocabulary, so that of the shipped model is used.
_SHIPPED = "llava-tiny"


@building()
@quiet_transformers()
def random_model(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """A model of the configured sizes, created on its device, and a processor.

    Args:
        config: A mapping as in ``conf/model``; ``llm_layers`` is the number of LLM layers; null for all.

    Returns:
        The model in evaluation mode, and a processor: from the settings in ``processor``, with llava-tiny's vocabulary; without
        them llava-tiny's, or without ``geometry`` the checkpoint's.

    Raises:
        ParbenchError: The sizes are not known, or the processor does not fit them.
    """
    from transformers import AutoModelForImageTextToText

    sizes = config_of(config)
    if (layers := config.get("llm_layers")) is not None:
        _shorten(sizes.text_config, layers, config["name"])
    processor = _processor(sizes, config)
    if sizes.text_config.vocab_size < len(processor.tokenizer):
        raise ParbenchError(
            f"model.weights=random uses {_SHIPPED}'s vocabulary of {len(processor.tokenizer)} tokens, but {config['name']} "
            f"has only {sizes.text_config.vocab_size}: increase geometry.text.vocab_size"
        )
    model = _drawn(AutoModelForImageTextToText, sizes, config, attn_implementation=config["attention"])
    return model, processor


def _shorten(text: Any, layers: Any, name: str) -> None:
    """Leave the first ``layers`` LLM layers."""
    most = text.num_hidden_layers
    if not isinstance(layers, int) or not 1 <= layers <= most:
        raise ParbenchError(f"model.llm_layers={layers} is impossible for {name}: use 1 to {most}")
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]


def _processor(sizes: Any, config: Mapping[str, Any]) -> Any:
    """The processor that fits a model's sizes. The ids of special tokens in ``sizes`` become the processor's."""
    if settings := config.get("processor"):
        tokenizer = small_tokenizer(sizes.model_type)
        take_ids(sizes, tokenizer)
        processor = build_processor(sizes, tokenizer, settings)
        if limits := pixel_limits(config):
            limit_pixels(processor, limits)
        return processor
    if not (geometry := config.get("geometry")):
        return load_processor(locate(str(config["path"]), config.get("revision"), weights=False), config)
    if "model_type" in geometry:
        raise ParbenchError(
            f"model.weights=random of {config['name']} needs the settings of its processor: write model.processor, as in "
            "conf/model/qwen2.5-vl-7b.yaml"
        )
    processor = load_processor(asset(_SHIPPED))
    side = processor.image_processor.crop_size["height"]
    if sizes.vision_config.image_size != side:
        raise ParbenchError(
            f"model.weights=random uses {_SHIPPED}'s processor with images of {side} x {side} pixels, but "
            f"{config['name']} needs {sizes.vision_config.image_size}: set geometry.vision.image_size={side}"
        )
    take_ids(sizes, processor.tokenizer)
    return processor


@building()
@quiet_transformers()
def random_clip(config: Mapping[str, Any], tower: Any) -> ClipSpace:
    """CLIP text encoder and projections of the configured sizes, with random weights.

    Raises:
        ParbenchError: The configuration has no sizes for them.
    """
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(asset(f"{_SHIPPED}/clip"), local_files_only=True)
    tokenizer.padding_side = "right"
    sizes = clip_sizes(config, tower.config)
    # The encoder pools at this token.
    sizes.text_config.eos_token_id = tokenizer.eos_token_id
    clip = _drawn(AutoModel, sizes, config)
    del clip.vision_model
    return ClipSpace(clip, tokenizer, tower)


def clip_sizes(config: Mapping[str, Any], vision: Any) -> Any:
    """The ``CLIPConfig`` of a ``conf/model`` mapping, from its ``geometry`` or the folder of its CLIP.

    Its vision part has the sizes of ``vision`` with a single block; it is discarded, since LLaVA has its own.

    Raises:
        ParbenchError: The configuration does not contain the sizes.
    """
    from transformers import CLIPConfig

    if text := (config.get("geometry") or {}).get("clip"):
        blocks = {**vision.to_dict(), "num_hidden_layers": 1}
        return CLIPConfig(text_config=dict(text), vision_config=blocks, projection_dim=text["projection_dim"])
    if config.get("geometry") is None and config.get("clip"):
        folder = locate_clip(str(config["clip"]), config.get("clip_revision"), weights=False)
        check_clip_config(folder)
        sizes = CLIPConfig.from_pretrained(folder, local_files_only=True)
        sizes.vision_config.num_hidden_layers = 1
        return sizes
    raise ParbenchError(
        f"model {config['name']} has no sizes for the CLIP text encoder, which this method needs: set model.geometry.clip"
    )


def _drawn(kind: Any, sizes: Any, config: Mapping[str, Any], **arguments: Any) -> Any:
    device = resolve_device(str(config["device"]))
    on = [device] if device.type == "cuda" else []
    # Created on its device, so a 7B model never passes through main memory.
    with torch.random.fork_rng(devices=on), device:
        torch.manual_seed(0)
        try:
            model = kind.from_config(sizes, dtype=resolve_dtype(str(config["dtype"])), **arguments)
        except torch.OutOfMemoryError as error:
            raise ParbenchError(
                f"{config['name']} does not fit into the memory of {device}: use model.dtype=bfloat16 or fewer model.llm_layers"
            ) from error
        except (ValueError, ImportError) as error:
            raise ParbenchError(f"{config['name']} cannot be built: {str(error).splitlines()[0]}") from error
    return model.requires_grad_(False).eval()
