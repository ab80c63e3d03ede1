"""Questions to phrases."""

from __future__ import annotations

import pytest

from parbench.reducers.keywords import keywords
from parbench.reducers.wording import parsed, phrases, singular, strip_format


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is the red star left or right of the blue circle?", ["red star", "blue circle"]),
        ("How many crosses are there?", ["cross"]),
        ("What colour is the triangle?", ["triangle"]),
        ("What does the white sign say?", ["white sign"]),
        ("Is there an orange ring in the image?", ["orange ring"]),
    ],
)
def test_phrases_name_what_is_asked_about(question, expected):
    assert phrases(question) == expected


def test_a_question_of_function_words_stays_whole():
    assert phrases("What is it?") == ["What is it?"]


def test_instructions_on_how_to_answer_are_no_query():
    assert strip_format("What is red?\nAnswer the question using a single word or phrase.") == "What is red?"


@pytest.mark.parametrize(
    ("word", "one"), [("stars", "star"), ("crosses", "cross"), ("berries", "berry"), ("bus", "bus"), ("glass", "glass")]
)
def test_singular(word, one):
    assert singular(word) == one


def test_actions_are_the_words_that_say_what_is_asked():
    assert parsed("Is the red star left of the blue circles?") == ["red star", "blue circle", "left"]
    assert parsed("How many crosses are there?") == ["cross", "many"]


@pytest.mark.parametrize(
    ("question", "left"),
    [
        # What MMTok's release makes of them.
        ("What color is the small car on the left?", "color small car on left"),
        ("Where IS the dog's bowl, and who is it for?", "dog s bowl"),
        ("Question: the sign says STOP\nAnswer the question using a single word or phrase.", "sign says STOP"),
        ("a b-c_d 12.5 o'clock", "b c_d 12 5 o clock"),
        ("Is it?", "Is it?"),
        ("The and the", "The and the"),
        ("", ""),
        # Ours: the marker of an image is no word.
        ("<image>\nIs there a star?", "there star"),
    ],
)
def test_keywords_are_those_of_mmtok(question, left):
    assert keywords(question) == left
