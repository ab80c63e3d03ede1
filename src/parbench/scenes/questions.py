"""Questions about a scene, their answers, and the boxes of the objects that they need.

Skills: existence (as in POPE: yes, and no with random, popular or adversarial negatives), colour, shape, count, position,
relation, reading. Questions refer to an object only if its name is unambiguous.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from parbench.scenes.world import (
    CANVAS,
    COLOURS,
    KINDS,
    POPULAR,
    SHAPES,
    Box,
    Scene,
    Thing,
)

SKILLS = ("existence", "colour", "shape", "count", "position", "relation", "reading")
NEGATIVES = ("random", "popular", "adversarial")
MAX_COUNT = 4
# Minimum pixels by which a position or relation must be unambiguous.
MIDLINE_MARGIN = 16
RELATION_MARGIN = 42

PLURALS = {shape: f"{shape}s" for shape in SHAPES} | {"cross": "crosses"}


@dataclass(frozen=True)
class Question:
    """A question with its answer and evidence.

    Attributes:
        skill: One of ``SKILLS``.
        detail: Sub-type, such as the type of negative (``yes``, ``random``, ``popular``, ``adversarial``).
        text: The question.
        answer: The only correct answer.
        boxes: Boxes (x0, y0, x1, y1; pixels) of the objects that the question needs; empty for an absent object.
        frames: Of a question about a clip, the number of the frame of each box, from 0.
    """

    skill: str
    detail: str
    text: str
    answer: str
    boxes: tuple[Box, ...]
    frames: tuple[int, ...] = ()


def _existence(scene: Scene) -> Iterable[Question]:
    def ask(kind: tuple[str, str], detail: str, answer: str, boxes: tuple[Box, ...] = ()) -> Question:
        article = "an" if kind[0] == "orange" else "a"
        return Question("existence", detail, f"Is there {article} {kind[0]} {kind[1]} in the image?", answer, boxes)

    for kind in sorted(scene.kinds):
        yield ask(kind, "yes", "yes", tuple(t.box for t in scene.things if t.kind == kind))
    shapes, colours = {t.shape for t in scene.things}, {t.colour for t in scene.things}
    for kind in KINDS:
        if kind not in scene.kinds:
            yield ask(kind, "random", "no")
            if kind in POPULAR:
                yield ask(kind, "popular", "no")
            if kind[0] in colours and kind[1] in shapes:
                yield ask(kind, "adversarial", "no")


def _attributes(scene: Scene) -> Iterable[Question]:
    shapes, colours = Counter(t.shape for t in scene.things), Counter(t.colour for t in scene.things)
    for thing in scene.things:
        if shapes[thing.shape] == 1:
            yield Question("colour", thing.shape, f"What colour is the {thing.shape}?", thing.colour, (thing.box,))
        if colours[thing.colour] == 1:
            yield Question("shape", thing.colour, f"What shape is the {thing.colour} object?", thing.shape, (thing.box,))


def _count(scene: Scene) -> Iterable[Question]:
    for shape in SHAPES:
        boxes = tuple(t.box for t in scene.things if t.shape == shape)
        if 1 <= len(boxes) <= MAX_COUNT:
            yield Question("count", shape, f"How many {PLURALS[shape]} are there?", str(len(boxes)), boxes)
    for colour in COLOURS:
        boxes = tuple(t.box for t in scene.things if t.colour == colour)
        if 1 <= len(boxes) <= MAX_COUNT:
            yield Question("count", colour, f"How many {colour} objects are there?", str(len(boxes)), boxes)


def _unique(scene: Scene) -> list[Thing]:
    kinds = Counter(t.kind for t in scene.things)
    return [t for t in scene.things if kinds[t.kind] == 1]


def _position(scene: Scene) -> Iterable[Question]:
    middle = CANVAS / 2
    for thing in _unique(scene):
        x, y = thing.centre
        if min(abs(x - middle), abs(y - middle)) >= MIDLINE_MARGIN:
            answer = f"{'top' if y < middle else 'bottom'} {'left' if x < middle else 'right'}"
            yield Question("position", answer, f"Where is the {thing.name}?", answer, (thing.box,))


def _relation(scene: Scene) -> Iterable[Question]:
    for one, other in permutations(_unique(scene), 2):
        (ax, ay), (bx, by) = one.centre, other.centre
        boxes = (one.box, other.box)
        if abs(ax - bx) >= RELATION_MARGIN:
            text = f"Is the {one.name} left or right of the {other.name}?"
            yield Question("relation", "horizontal", text, "left" if ax < bx else "right", boxes)
        if abs(ay - by) >= RELATION_MARGIN:
            text = f"Is the {one.name} above or below the {other.name}?"
            yield Question("relation", "vertical", text, "above" if ay < by else "below", boxes)


def _reading(scene: Scene) -> Iterable[Question]:
    for sign in scene.signs:
        yield Question("reading", sign.colour, f"What does the {sign.colour} sign say?", sign.text, (sign.box,))


_ASKERS = (_existence, _attributes, _count, _position, _relation, _reading)


def candidates(scene: Scene) -> list[Question]:
    """Every question that can be asked about the scene, in a fixed order."""
    return [question for asker in _ASKERS for question in asker(scene)]


def draw_questions(
    rng: np.random.Generator,
    scene: Scene,
    count: int,
    weights: Mapping[str, float] | None = None,
    shown: Collection[Box] | None = None,
) -> list[Question]:
    """Draw questions for training: a skill by weight (default 1), then a uniform answer, then one of its questions.

    Existence is half yes and half no; no is divided among the three types of negative. With ``shown``, only questions whose
    boxes are all in it are drawn.
    """
    offered = [question for question in candidates(scene) if shown is None or set(question.boxes) <= set(shown)]
    return drawn(rng, offered, count, SKILLS, weights)


def drawn(
    rng: np.random.Generator,
    offered: Iterable[Question],
    count: int,
    order: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> list[Question]:
    """Draw some of the questions offered about a picture or a clip, as :func:`draw_questions`; none if there are none.

    Args:
        rng: What is drawn follows from it.
        offered: The questions.
        count: How many.
        order: All skills.
        weights: Weights of skills; default 1.
    """
    tree: dict[str, dict[str, dict[str, list[Question]]]] = {}
    for question in offered:
        by_answer = tree.setdefault(question.skill, {})
        by_answer.setdefault(question.answer, {}).setdefault(question.detail, []).append(question)
    found = []
    skills = [skill for skill in order if skill in tree]
    share = np.array([(weights or {}).get(skill, 1.0) for skill in skills])
    for _ in range(count if skills else 0):
        by_answer = tree[skills[rng.choice(len(skills), p=share / share.sum())]]
        by_detail = by_answer[list(by_answer)[rng.integers(len(by_answer))]]
        group = by_detail[list(by_detail)[rng.integers(len(by_detail))]]
        found.append(group[rng.integers(len(group))])
    return found
