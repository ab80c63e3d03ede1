"""Special tokens of each family, for models that have no tokenizer of their own: random weights and counts without files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.models.assets import asset

# The shipped model, whose vocabulary they extend. It has <image> already.
_VOCABULARY = "llava-tiny"
# Where the text of a message begins in its chat template, behind the images.
_TEXT = "{% for part in message['content'] if part['type'] == 'text' %}"


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens with which a family's processor writes images into a prompt.

    Attributes:
        image: The token that stands for one visual token in the expanded prompt.
        placeholder: What a prompt contains for an image before it is expanded.
        named: Tokens that the processor reads as attributes of the tokenizer, by attribute.
        others: Further tokens.
        ids: Keys of the model's configuration that hold ids of tokens, other than ``image_token_id``.
    """

    image: str = "<image>"
    placeholder: str = "<image>"
    named: Mapping[str, str] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)


_WITH_VIDEO = SpecialTokens(others=("<video>",), ids={"video_token_id": "<video>"})
_QWEN = SpecialTokens(
    image="<|image_pad|>",
    placeholder="<|vision_start|><|image_pad|><|vision_end|>",
    named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    others=("<|vision_start|>", "<|vision_end|>"),
    ids={
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    },
)
# Text between the tiles of an image says where they are.
_TILED = SpecialTokens(
    others=(
        "<fake_token_around_image>",
        "<global-img>",
        "<end_of_utterance>",
        "<video>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    )
)
_INTERNVL = SpecialTokens(
    image="<IMG_CONTEXT>",
    placeholder="<IMG_CONTEXT>",
    named={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
)
_GEMMA3 = SpecialTokens(
    image="<image_soft_token>",
    placeholder="<start_of_image>",
    named={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"},
    ids={"boi_token_index": "<start_of_image>", "eoi_token_index": "<end_of_image>"},
)
SPECIAL_TOKENS = {
    "llava": SpecialTokens(),
    "llava_next": SpecialTokens(),
    "llava_next_video": _WITH_VIDEO,
    "llava_onevision": _WITH_VIDEO,
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
    "internvl": _INTERNVL,
    "idefics3": _TILED,
    "smolvlm": _TILED,
    "gemma3": _GEMMA3,
}


def special_tokens(model_type: str) -> SpecialTokens:
    """The special tokens of a family.

    Raises:
        ParbenchError: They are not known.
    """
    if model_type not in SPECIAL_TOKENS:
        raise ParbenchError(
            f"the special tokens of model type {model_type} are not known, so it needs a checkpoint's tokenizer: "
            f"known are {', '.join(SPECIAL_TOKENS)}"
        )
    return SPECIAL_TOKENS[model_type]


def small_tokenizer(model_type: str, folder: str | Path | None = None) -> Any:
    """llava-tiny's tokenizer, with the special tokens of a family and a chat template that uses its placeholder.

    Args:
        model_type: The family.
        folder: A folder with a tokenizer that takes the place of llava-tiny's.

    Raises:
        ParbenchError: The family's special tokens are not known.
    """
    from transformers import AutoTokenizer

    tokens = special_tokens(model_type)
    tokenizer = AutoTokenizer.from_pretrained(
        folder or asset(_VOCABULARY),
        local_files_only=True,
        extra_special_tokens=["<image>", *tokens.others],
        model_specific_special_tokens=dict(tokens.named),
    )
    video = tokens.placeholder.replace(tokens.image, tokens.named.get("video_token", "<video>"))
    shown = f"{{% for part in message['content'] if part['type'] == 'video' %}}{video}\n{{% endfor %}}"
    template = tokenizer.chat_template.replace("<image>", tokens.placeholder)
    tokenizer.chat_template = template.replace(_TEXT, shown + _TEXT)
    return tokenizer


def take_ids(config: Any, tokenizer: Any) -> None:
    """Set the ids of special tokens in a model's configuration to those of a tokenizer of :func:`small_tokenizer`."""
    tokens = special_tokens(config.model_type)
    for key, token in {"image_token_id": tokens.image, **tokens.ids}.items():
        setattr(config, key, tokenizer.convert_tokens_to_ids(token))
