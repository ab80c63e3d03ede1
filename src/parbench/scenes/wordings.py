"""Paraphrases of the questions of ``scenes``: several per skill for training, and some held out from training.

The splits use the wording of ``parbench.scenes.questions``. Paraphrases have the same answer and evidence. Held-out paraphrases
consist of words that occur in training, in other sentences.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from parbench.scenes.questions import Question

_ORIGINAL = {
    "existence": re.compile(r"Is there (?P<thing>an? .+) in the image\?"),
    "colour": re.compile(r"What colour is the (?P<shape>\w+)\?"),
    "shape": re.compile(r"What shape is the (?P<colour>\w+) object\?"),
    "count": re.compile(r"How many (?P<things>.+) are there\?"),
    "position": re.compile(r"Where is the (?P<thing>.+)\?"),
    "relation": re.compile(r"Is the (?P<one>.+) (?P<axis>left or right|above or below) (?P<of>of )?the (?P<other>.+)\?"),
    "reading": re.compile(r"What does the (?P<sign>.+) say\?"),
}

# {axis} is "left or right" or "above or below", {of} is "of " after the first and nothing after the second.
WORDINGS: dict[str, tuple[str, ...]] = {
    "existence": (
        "Is there {thing} in the image?",
        "Is there {thing}?",
        "Is {thing} present?",
        "Is {thing} in the picture?",
        "Does the image contain {thing}?",
        "Does the picture show {thing}?",
        "Can you see {thing}?",
        "Do you see {thing} in this image?",
    ),
    "colour": (
        "What colour is the {shape}?",
        "What color is the {shape}?",
        "What is the colour of the {shape}?",
        "What is the color of the {shape}?",
        "Which colour does the {shape} have?",
        "Say which colour the {shape} is.",
    ),
    "shape": (
        "What shape is the {colour} {noun}?",
        "What is the shape of the {colour} {noun}?",
        "What is the {colour} shape?",
        "Which shape is the {colour} {noun}?",
        "Which shape does the {colour} {noun} have?",
        "Say what shape the {colour} {noun} has.",
    ),
    "count": (
        "How many {things} are there?",
        "How many {things} are in the image?",
        "How many {things} do you see?",
        "How many {things} does the picture show?",
        "What is the number of {things}?",
        "Count the {things}.",
        "Say how many {things} there are.",
        "How many {things} can you see?",
        "What number of {things} is in the picture?",
        "In this image, how many {things} are there?",
    ),
    "position": (
        "Where is the {thing}?",
        "Where is the {thing} in the picture?",
        "Where in the image is the {thing}?",
        "Which corner is the {thing} in?",
        "In which part of the image is the {thing}?",
        "Say where the {thing} is.",
        "Find the {thing}.",
    ),
    "relation": (
        "Is the {one} {axis} {of}the {other}?",
        "Is the {one} to the {axis} of the {other}?",
        "Where is the {one}, {axis} {of}the {other}?",
        "Compared to the {other}, is the {one} {axis}?",
        "Is the {one} {swapped} {of}the {other}?",
        "Say if the {one} is {axis} {of}the {other}.",
        "In this picture, is the {one} {axis} {of}the {other}?",
        "Where, {axis} {of}the {other}, is the {one}?",
        "Compared to the {other}, say if the {one} is {axis}.",
    ),
    "reading": (
        "What does the {sign} say?",
        "What is written on the {sign}?",
        "Which characters are on the {sign}?",
        "What text does the {sign} show?",
        "What can you read on the {sign}?",
        "Read the {sign}.",
        "Say what is on the {sign}.",
    ),
}
HELD_OUT: dict[str, tuple[str, ...]] = {
    "existence": ("Do you see {thing} in the picture?", "Is {thing} present in this image?"),
    "colour": ("Which color is the {shape}?", "What color does the {shape} have?"),
    "shape": ("What shape does the {colour} {noun} have?", "Say which shape the {colour} {noun} is."),
    "count": ("How many {things} can you see in this picture?", "What number of {things} does the image contain?"),
    "position": ("Where can you see the {thing}?", "In which corner of the picture is the {thing}?"),
    "relation": (
        "Compared to the {other}, where is the {one}, {axis}?",
        "Say where the {one} is, {axis} {of}the {other}.",
    ),
    "reading": ("Which text does the {sign} have?", "What text is written on the {sign}?"),
}
# Nouns for objects of which only the colour is named.
_NOUNS = ("object", "thing", "shape")


def parts(question: Question) -> dict[str, str]:
    """The slots of a question that its paraphrases share, by name.

    Raises:
        ValueError: The question is not in the wording of ``parbench.scenes.questions``.
    """
    match = _ORIGINAL[question.skill].fullmatch(question.text)
    if match is None:
        raise ValueError(f"{question.text!r} is not the wording of scenes for {question.skill}")
    return {name: value or "" for name, value in match.groupdict().items()}


def reword(question: Question, rng: np.random.Generator, wordings: Mapping[str, tuple[str, ...]] = WORDINGS) -> Question:
    """The question in a random paraphrase of its skill, with the same answer and evidence."""
    slots = parts(question)
    noun = _NOUNS[rng.integers(len(_NOUNS))]
    if "things" in slots:
        slots["things"] = re.sub("objects$", f"{noun}s", slots["things"])
    if "axis" in slots:
        slots["swapped"] = " or ".join(reversed(slots["axis"].split(" or ")))
    offered = wordings[question.skill]
    # "to the above of" is not English.
    if slots.get("axis") == "above or below":
        offered = tuple(wording for wording in offered if "to the {axis}" not in wording)
    text = offered[rng.integers(len(offered))].format(noun=noun, **slots)
    return replace(question, text=text)
