"""Words for what patches show, and the objects that a question refers to, as labels for auxiliary losses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from parbench.scenes.questions import PLURALS, Question
from parbench.scenes.world import CANVAS, KINDS, PATCH, Scene
from tiny.vision_stage import Picture

_PLACES = ("one", "two", "three")
Centre = tuple[float, float]


def words_of_patches(picture: Picture) -> list[tuple[int, tuple[str, ...]]]:
    """The index in the window and the words of each patch that shows an object or a sign."""
    scene, window = picture.scene, picture.scene.window
    result = []
    for index in np.flatnonzero(picture.owner):
        row, column = divmod(int(index), window.width)
        upper = "top" if (window.row + row + 0.5) * PATCH < CANVAS / 2 else "bottom"
        side = "left" if (window.column + column + 0.5) * PATCH < CANVAS / 2 else "right"
        owner = int(picture.owner[index])
        if owner > 0:
            thing = scene.things[owner - 1]
            words: tuple[str, ...] = (thing.colour, thing.shape, upper, side)
        else:
            sign = scene.signs[-owner - 1]
            place = int(picture.labels["place"][index])
            words = (sign.colour, "sign", sign.text[place], _PLACES[place])
        result.append((int(index), words))
    return result


def _where(centre: Centre) -> tuple[str, str]:
    return "top" if centre[1] < CANVAS / 2 else "bottom", "left" if centre[0] < CANVAS / 2 else "right"


@dataclass(frozen=True)
class Referent:
    """An object or a kind of objects that a question refers to.

    Attributes:
        phrase: The words in the question that refer to it. The hidden state of the last one is trained.
        words: Words that describe it.
        centre: Its centre in pixels of the canvas; None if the phrase does not refer to exactly one object.
    """

    phrase: tuple[str, ...]
    words: tuple[str, ...]
    centre: Centre | None = None


def referents(question: Question, scene: Scene) -> list[Referent]:
    """The objects that a question refers to, in any wording; for a relation the first object, then the second."""
    said = re.findall(r"\w+", question.text)
    named = [next((t for t in scene.things if t.box == box), None) for box in question.boxes]
    if question.skill == "count":
        by_shape = PLURALS.get(question.detail)
        phrase = (by_shape,) if by_shape else (question.detail, said[said.index(question.detail) + 1])
        return [Referent(phrase, (question.answer,))]
    if question.skill == "reading":
        return [Referent((question.detail, "sign"), (question.answer[0],))]
    if question.skill == "existence":
        kind = next(pair for pair in pairwise(said) if pair in KINDS)
        return [Referent(kind, (named[0].colour, named[0].shape) if named and named[0] else ("nothing",))]
    found = []
    for t in named:
        if t is not None:
            phrase = (t.colour, t.shape)
            if question.skill == "colour":
                phrase = (t.shape,)
            if question.skill == "shape":
                phrase = (t.colour, said[said.index(t.colour) + 1])
            found.append(Referent(phrase, (t.colour, t.shape, *_where(t.centre)), t.centre))
    return found
