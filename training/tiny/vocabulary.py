"""Tokenizer and processor of llava-tiny: one token per known word, single characters for other words."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedModel, PreTrainedTokenizerFast

from parbench.scenes.world import CANVAS, COLOURS, PATCH, SHAPES, SIGN_COLOURS, SIZES

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
END_OF_TEXT = "<|endoftext|>"
CONTEXT = 1024

_WORDS = [
    "USER:",
    "ASSISTANT:",
    "is",
    "are",
    "there",
    "a",
    "an",
    "the",
    "in",
    "of",
    "or",
    "and",
    "to",
    "left",
    "right",
    "above",
    "below",
    "where",
    "what",
    "which",
    "colour",
    "shape",
    "size",
    "how",
    "many",
    "does",
    "do",
    "say",
    "says",
    "sign",
    "object",
    "objects",
    "image",
    "picture",
    "photo",
    "scene",
    "top",
    "bottom",
    "yes",
    "no",
    "not",
    "on",
    "it",
    "this",
    "that",
    "with",
    "at",
    "small",
    "large",
    "red",
    "big",
    "read",
    "text",
    "word",
    "words",
    "written",
    "characters",
    "answer",
    "question",
    "using",
    "single",
    "phrase",
    "one",
    "two",
    "three",
    "four",
    "find",
    "look",
    "show",
    "me",
    "please",
    "describe",
    "see",
    "can",
    "you",
    "has",
    "have",
    "letter",
    "Answer",
    "Is",
    "Are",
    "What",
    "Where",
    "Which",
    "How",
    "Does",
    "Do",
    "There",
    "The",
    "A",
    "It",
    "This",
    "Find",
    "Look",
    "Show",
    "Describe",
    "Read",
    "Please",
    "from",
    "nothing",
    "background",
]

# Words that the second half of the training adds, each with a known word whose embedding is its initial value. They have the last
# ids, so that the ids of known words do not change.
ADDED = {
    "color": "colour",
    "thing": "object",
    "things": "objects",
    "shapes": "objects",
    "rectangle": "square",
    "gray": "black",
    "teal": "green",
    "brown": "orange",
    "present": "there",
    "contain": "show",
    "number": "many",
    "Count": "How",
    "Say": "What",
    "Compared": "Is",
    "Can": "Do",
    "In": "Where",
    "if": "is",
    "part": "where",
    "corner": "where",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {% else %} ASSISTANT: {% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}"
    "{% for part in message['content'] if part['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
    "{% endif %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def _pieces(added: Iterable[str]) -> list[tuple[str, float]]:
    words = dict.fromkeys([*_WORDS, *SHAPES, *(f"{shape}s" for shape in SHAPES), "crosses", *COLOURS, *SIZES, *SIGN_COLOURS])
    pieces = [(piece, 0.0) for piece in SPECIAL]
    pieces += [(f"▁{word}", -2.0) for word in words]
    pieces += [(f"▁{digit}", -2.0) for digit in string.digits]
    pieces += [("▁\n", -2.0), ("▁", -3.0)]
    pieces += [(character, -5.0) for character in string.ascii_letters + string.digits + string.punctuation]
    pieces += [(f"▁{word}", -2.0) for word in added]
    return pieces


def build_tokenizer(added: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """The tokenizer. Known words are one token; other words, such as the text of signs, are split into characters.

    Args:
        added: Additional words, such as ``ADDED``, which get the last ids.
    """
    pieces = _pieces(added)
    core = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>"), byte_fallback=False))
    core.normalizer = normalizers.NFKC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("\n"), "isolated"),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    core.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    core.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        model_max_length=CONTEXT,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def added_words(model: PreTrainedModel) -> tuple[str, ...]:
    """The words of ``ADDED`` that a llava-tiny knows: all, or none if it was trained with the first half of the recipe alone."""
    return tuple(ADDED) if model.get_input_embeddings().num_embeddings == len(build_tokenizer(ADDED)) else ()


def tokenizer_of(model: PreTrainedModel) -> PreTrainedTokenizerFast:
    """The tokenizer of a llava-tiny."""
    return build_tokenizer(added_words(model))


def build_clip_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the CLIP text tower, with an end token that has the last id.

    The text tower pools at the end token. If its id is 2, transformers pools at the greatest id instead, which would be a word.
    """
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"eos_token": END_OF_TEXT})
    end = tokenizer.convert_tokens_to_ids(END_OF_TEXT)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"<s> $A {END_OF_TEXT}",
        pair=f"<s> $A $B {END_OF_TEXT}",
        special_tokens=[("<s>", 1), (END_OF_TEXT, end)],
    )
    tokenizer.padding_side = "right"
    tokenizer.model_max_length = 77
    tokenizer.chat_template = None
    return tokenizer


def extend(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, added: Mapping[str, str]) -> None:
    """Add embeddings for new words of a tokenizer to a model.

    Args:
        model: The model; changed in place.
        tokenizer: The tokenizer with the new words.
        added: New words, each with the known word whose embedding is copied.
    """
    trained = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    pieces = tokenizer.get_vocab()
    with torch.no_grad():
        for word, like in added.items():
            if pieces[f"▁{word}"] >= trained:
                for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                    layer.weight[pieces[f"▁{word}"]] = layer.weight[pieces[f"▁{like}"]]


def build_processor(added: Iterable[str] = ()) -> LlavaProcessor:
    """The processor: image processor (336 x 336 pixels, CLIP's mean and standard deviation) and tokenizer.

    Args:
        added: As for :func:`build_tokenizer`.
    """
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": CANVAS}, crop_size={"height": CANVAS, "width": CANVAS})
    return LlavaProcessor(
        image_processor=image_processor,
        tokenizer=build_tokenizer(added),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
