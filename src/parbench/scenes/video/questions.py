"""Questions about a film, their answers, and the evidence: boxes in frames.

Skills: direction (which way something moves), motion (whether it moves), order (what came or vanished first), events (how often it
blinks), colour (before or after a change), memory (what was there in the beginning). A question is asked only where the middle
frame alone leaves each answer open: of a thing that could move in each of the four ways from where it is then, of two events that
are both on one side of it, of the colour that it does not show. Evidence is all that shows the answer, alone or together with other
evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import permutations

import numpy as np

from parbench.scenes.questions import Question, drawn
from parbench.scenes.video.tracks import APART, FRAMES, MAX_BLINKS, MIDDLE, WAYS, Actor, Film
from parbench.scenes.world import COLOURS, SHAPES

SKILLS = ("direction", "motion", "order", "events", "colour", "memory")
# Words of questions and answers that llava-tiny's tokenizer does not know, for the tokenizer of a model that is trained on clips.
WORDS = ("way", "move", "moving", "still", "up", "down", "came", "vanished", "first", "times", "blink", "was", "beginning", "end")

# What the thing of a question of colour does: half of what ``colour`` asks would otherwise be answered by any frame.
SAME, CHANGED = "same", "changed"
# Among six colours, one is that of the middle frame: so often the colour stays.
CHANGES_PER_SAME = len(COLOURS) - 1


def _ask(skill: str, detail: str, text: str, answer: str, evidence: Iterable[tuple[int, Actor]]) -> Question:
    """A question whose evidence is things in frames."""
    places = list(evidence)
    boxes, frames = tuple(actor.box(frame) for frame, actor in places), tuple(frame for frame, _ in places)
    return Question(skill, detail, text, answer, boxes, frames)


def _kinds(actor: Actor) -> set[tuple[str, str]]:
    return {(colour, actor.shape) for colour in actor.colours}


def named(film: Film) -> Iterator[tuple[int, Actor]]:
    """The things of which no other ever has the name, with their numbers."""
    for number, actor in enumerate(film.actors):
        others = [_kinds(other) for place, other in enumerate(film.actors) if place != number]
        if not any(_kinds(actor) & kinds for kinds in others):
            yield number, actor


def _throughout(actor: Actor) -> Iterator[tuple[int, Actor]]:
    return ((frame, actor) for frame in range(FRAMES))


def moves(actor: Actor) -> Iterator[Question]:
    """Questions about the movement of a thing, wherever it is."""
    way = actor.track.kind
    if actor.moves:
        yield _ask("direction", way, f"Which way does the {actor.name} move?", way, _throughout(actor))
    if actor.moves or way == "still":
        answer = "moving" if actor.moves else "still"
        yield _ask("motion", way, f"Is the {actor.name} still or moving?", answer, _throughout(actor))


def _movement(skill: str) -> Callable[[Film], Iterator[Question]]:
    def asked(film: Film) -> Iterator[Question]:
        for number, actor in named(film):
            if film.free(number):
                yield from (question for question in moves(actor) if question.skill == skill)

    return asked


def _order(film: Film) -> Iterator[Question]:
    offered = [actor for _, actor in named(film)]
    for kind, came in (("appear", "came"), ("vanish", "vanished")):
        events = [actor for actor in offered if actor.track.kind == kind]
        for one, other in permutations(events, 2):
            first, second = sorted((one, other), key=lambda actor: actor.track.frame)
            start, end = first.track.frame, second.track.frame
            if end - start >= APART and (start <= MIDDLE) == (end <= MIDDLE):
                text = f"Which {came} first, the {one.name} or the {other.name}?"
                # What is there and what is not between the two events says which was first.
                shown = ((frame, actor) for frame in range(start, end) for actor in (one, other))
                yield _ask("order", came, text, first.name, shown)


def _events(film: Film) -> Iterator[Question]:
    for _, actor in named(film):
        if actor.track.kind in ("still", "blink"):
            count = str(len(actor.track.off))
            yield _ask("events", count, f"How many times does the {actor.name} blink?", count, _throughout(actor))


def _colour(film: Film) -> Iterator[Question]:
    shapes = [actor.shape for actor in film.actors]
    for actor in film.actors:
        if actor.track.kind not in ("still", "change") or shapes.count(actor.shape) > 1:
            continue
        detail = CHANGED if actor.track.colour else SAME
        # A changing thing is asked for the colour that the middle frame does not show.
        late = actor.track.colour and actor.track.frame > MIDDLE
        if not late:
            text = f"What colour was the {actor.shape} in the beginning?"
            frames = range(actor.track.frame or FRAMES)
            yield _ask("colour", detail, text, actor.colours[0], ((frame, actor) for frame in frames))
        if late or detail == SAME:
            text = f"What colour is the {actor.shape} at the end?"
            frames = range(actor.track.frame, FRAMES)
            yield _ask("colour", detail, text, actor.colours[-1], ((frame, actor) for frame in frames))


def _memory(film: Film) -> Iterator[Question]:
    for number, actor in enumerate(film.actors):
        others = {colour for place, other in enumerate(film.actors) if place != number for colour in other.colours}
        if actor.track.kind == "vanish" and actor.track.frame <= MIDDLE and actor.colour not in others:
            text = f"What shape was the {actor.colour} object in the beginning?"
            yield _ask("memory", actor.colour, text, actor.shape, ((frame, actor) for frame in range(actor.track.frame)))


ASKERS: dict[str, Callable[[Film], Iterator[Question]]] = {
    "direction": _movement("direction"),
    "motion": _movement("motion"),
    "order": _order,
    "events": _events,
    "colour": _colour,
    "memory": _memory,
}


def candidates(film: Film) -> list[Question]:
    """Every question that can be asked about the film, in a fixed order."""
    return [question for skill in SKILLS for question in ASKERS[skill](film)]


def draw_questions(rng: np.random.Generator, film: Film, count: int, weights: Mapping[str, float] | None = None) -> list[Question]:
    """Draw questions for training: a skill by weight (default 1), then a uniform answer, then one of its questions."""
    return drawn(rng, candidates(film), count, SKILLS, weights)


def options(question: Question) -> tuple[str, ...]:
    """The answers that a question leaves open, by its text alone."""
    if question.skill == "order":
        asked = question.text.removesuffix("?").partition(" first, the ")[2].split(" or the ")
        return tuple(asked)
    fixed = {
        "direction": tuple(WAYS),
        "motion": ("still", "moving"),
        "events": tuple(str(count) for count in range(MAX_BLINKS + 1)),
        "colour": COLOURS,
        "memory": SHAPES,
    }
    return fixed[question.skill]
