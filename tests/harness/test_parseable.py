"""What counts as an answer that a question allows."""

from __future__ import annotations

import pytest

from parbench.harness.parseable import options_of, parseable


@pytest.mark.parametrize("target", ["yes", "No", " NO "])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("Yes.", True),
        ("YES, there is", True),
        ("no", True),
        ("No, it isn't", True),
        ("y", True),
        ("N.", True),
        ("north", False),
        ("nothing", False),
        ("not sure", False),
        ("Yesterday", False),
        ("none", False),
        ("yes/no", False),
        ("Yes or no", False),
        ("maybe", False),
        ("", False),
        (".", False),
        ("nope", False),
        ("unknown", False),
        ("year", False),
    ],
)
def test_yes_and_no(text, expected, target):
    assert parseable(text, target, {}) is expected


MMBENCH = {"A": "red", "B": "dark blue", "C": "nan", "D": None, "question": "Which?"}
SEED = {f"choice_{letter}": text for letter, text in zip("abcd", ("One", "Two", "Three", "Four"), strict=True)}
SCIENCE = {"choices": ["cat", "dog"], "answer": 1}
MMMU = {"options": "['12 m', '15 m', 'none']"}


@pytest.mark.parametrize(
    ("doc", "target", "text", "expected"),
    [
        (MMBENCH, "A", "B", True),
        (MMBENCH, "A", "b.", True),
        (MMBENCH, "A", "(A) red", True),
        (MMBENCH, "A", "Red.", True),
        (MMBENCH, "A", "The answer is B.", True),
        (MMBENCH, "A", "it is dark blue", True),
        (MMBENCH, "A", "C", False),
        (MMBENCH, "A", "E", False),
        (MMBENCH, "A", "green", False),
        (MMBENCH, "A", "blue", False),
        (MMBENCH, "A", "hundred", False),
        (MMBENCH, "A", "", False),
        (SEED, "D", "two", True),
        (SEED, "D", "D", True),
        (SEED, "D", "E", False),
        (SEED, "D", "Five", False),
        (SCIENCE, "B", "B", True),
        (SCIENCE, "B", "C", False),
        (SCIENCE, "B", "a dog", True),
        (SCIENCE, "B", "horse", False),
        (MMMU, "C", "C", True),
        (MMMU, "C", "D", False),
        (MMMU, "C", "15 m", True),
        # The right answer is no option: it is not known what is allowed.
        (SCIENCE, "12", "7", True),
        ({}, "red", "blue", True),
        ({"options": "[]"}, "3.5", "4", True),
    ],
)
def test_multiple_choice(doc, target, text, expected):
    assert parseable(text, target, doc) is expected


def test_options_are_read_in_the_ways_that_they_are_stored():
    assert options_of(MMBENCH) == {"A": "red", "B": "dark blue"}
    assert options_of({"choices": {"label": ["A", "B"], "text": ["x", "y"]}}) == {"A": "x", "B": "y"}
    assert options_of({"options": {"A": "x", "B": ""}}) == {"A": "x"}
    assert options_of({"options": "not a list"}) == {}
