"""Tokenizer and processor of llava-tiny: whole words of the scenes world, single characters for the rest."""

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

# Words of llava-tiny 2, each with the known word that its rows start as. They come after all others, so that trained rows keep
# their places.
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
    """The tokenizer: known words are one token, other words are spelled, so signs read as characters.

    Args:
        added: Words beyond llava-tiny's, such as ``ADDED``; their ids come after all others.
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


def build_clip_tokenizer() -> PreTrainedTokenizerFast:
    """The same words for the CLIP text tower, with the end token that it pools at as the last id.

    transformers pools a text tower whose end token has id 2 at the *greatest* id instead, which here would be a word.
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
    """Give a model rows for the words of a tokenizer that it has not; each starts as the known word that ``added`` names."""
    trained = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    pieces = tokenizer.get_vocab()
    with torch.no_grad():
        for word, like in added.items():
            if pieces[f"▁{word}"] >= trained:
                for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                    layer.weight[pieces[f"▁{word}"]] = layer.weight[pieces[f"▁{like}"]]


def build_processor(added: Iterable[str] = ()) -> LlavaProcessor:
    """Image processor (336 x 336, CLIP's mean and deviation) and tokenizer together."""
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
