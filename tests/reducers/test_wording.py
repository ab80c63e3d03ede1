"""Questions to phrases."""

from __future__ import annotations

import pytest

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
