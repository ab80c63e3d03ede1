"""Kinds of the tokens of a prompt, whatever the tokenizer and the template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parbench.errors import UnfitSample
from parbench.reducers.word_kinds import CONTENT, STOP, TEMPLATE, character_kinds, token_kinds, words_of

_ASKED = "Is the red star left of it?\nAnswer the question using a single word or phrase."


def _by_kind(text: str, question: str) -> dict[int, str]:
    kinds = character_kinds(text, question)
    return {kind: "".join(sign for sign, own in zip(text, kinds, strict=True) if own == kind) for kind in (TEMPLATE, STOP, CONTENT)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("USER: ", " ASSISTANT:"),
        ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ("[INST] is the [/INST] ", ""),
        ("", ""),
    ],
)
def test_words_of_the_question_are_told_from_the_template(before, after):
    found = _by_kind(f"{before}{_ASKED}{after}", f"<image>\n{_ASKED}")
    assert found[CONTENT] == "redstarleft"
    assert found[STOP].split() == ["Is", "the", "of", "it?"]
    assert found[TEMPLATE] == f"{before}\nAnswer the question using a single word or phrase.{after}"


def test_spaces_and_capitals_of_a_tokenizer_do_not_matter():
    assert _by_kind("user : isthe red  star leftof it ? end", "Is the red star left of it?")[CONTENT] == "redstarleft"


def test_a_prompt_without_its_question_is_refused():
    with pytest.raises(UnfitSample, match="does not contain the question"):
        character_kinds("USER: Describe the image.", "Is it red?")


@given(st.lists(st.integers(1, 4), min_size=80, max_size=80))
def test_a_token_has_the_kind_of_its_most_telling_character(lengths):
    text, pieces = "USER: Is the café left of it? ASSISTANT:", []
    begin = 0
    for length in lengths:
        pieces.append(text[begin : begin + length])
        begin += length
    kinds = token_kinds(range(len(pieces)), lambda ids: "".join(pieces[number] for number in ids), "Is the café left of it?")
    characters = iter(character_kinds(text, "Is the café left of it?"))
    for piece, kind in zip(pieces, kinds, strict=True):
        assert kind == max((next(characters) for _ in piece), default=TEMPLATE)


@pytest.mark.parametrize(
    ("raters", "said"),
    [
        ("content", "red star left"),
        ("stop", "Is the of it"),
        ("last", "it"),
        ("template", "Answer the question using a single word or phrase."),
        ("all", _ASKED),
    ],
)
def test_the_words_of_a_kind_keep_their_order(raters, said):
    assert words_of(_ASKED, raters) == said


def test_a_question_without_words_of_a_kind_rates_as_a_whole():
    assert words_of("What is it?", "content") == "What is it?"


def test_a_character_in_several_tokens_has_one_kind():
    bytewise = "Is it 赤い?".encode()
    kinds = token_kinds(bytewise, lambda ids: bytes(ids).decode(errors="replace"), "Is it 赤い?")
    assert kinds == [STOP] * 6 + [CONTENT] * 6 + [STOP]
