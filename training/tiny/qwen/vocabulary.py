"""The tokenizer of qwen-tiny: llava-tiny's, with the special tokens of its family, and, from its first stage with clips or
questions on, with the words for clips.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from parbench.models.special_tokens import small_tokenizer, take_ids
from parbench.scenes.video.questions import WORDS
from tiny.vocabulary import build_tokenizer

# The known words whose embeddings the words for clips begin with.
_LIKE = {
    "way": "where",
    "move": "find",
    "moving": "right",
    "still": "on",
    "up": "above",
    "down": "below",
    "came": "there",
    "vanished": "nothing",
    "first": "one",
    "times": "many",
    "blink": "find",
    "was": "is",
    "beginning": "top",
    "end": "bottom",
}
FAMILY = "qwen2_5_vl"


def first_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer without the words for clips."""
    return _tokenizer(())


def known_pieces() -> int:
    """Number of pieces of llava-tiny's vocabulary, with which this one begins."""
    return len(build_tokenizer())


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer with the words for clips, which follow llava-tiny's; the special tokens come after them."""
    return _tokenizer(WORDS)


def _tokenizer(added: Iterable[str]) -> PreTrainedTokenizerFast:
    with tempfile.TemporaryDirectory() as folder:
        build_tokenizer(added).save_pretrained(folder)
        return small_tokenizer(FAMILY, folder)


def learn_words(
    qwen: Qwen2_5_VLForConditionalGeneration, before: PreTrainedTokenizerFast, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Give a model the vocabulary of another tokenizer.

    Known pieces keep their embeddings. New words begin with those of similar ones.

    Args:
        qwen: The model; changed in place.
        before: Its tokenizer until now.
        tokenizer: Its tokenizer from now on.
    """
    old, new = before.get_vocab(), tokenizer.get_vocab()
    table: Any = qwen.get_input_embeddings().weight.detach().clone()
    qwen.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for piece, number in new.items():
            known = piece if piece in old else f"▁{_LIKE[piece.removeprefix('▁')]}"
            qwen.get_input_embeddings().weight[number] = table[old[known]]
    take_ids(qwen.config, tokenizer)
