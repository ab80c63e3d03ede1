"""What a reader of a single frame could answer at best, by going through all films that would show the same in it.

A question of ``scenes-video`` should need several frames. For a question about a film, the solver puts every track that a thing
can have, with every shape and colour, in the place of each thing that is asked about. The films that are possible, show the same in
one frame and can be asked the same are what a reader of that frame cannot tell apart. Each is as likely as the generator draws it,
given the shares of answers that balancing leaves. The rest of the film is taken as known, so the reader is given more than it has.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from statistics import fmean

from parbench.scenes.questions import Question
from parbench.scenes.splits import load_split
from parbench.scenes.video.questions import ASKERS, SKILLS, options
from parbench.scenes.video.splits import GROUPS, FilmBalance
from parbench.scenes.video.tracks import BLINKS, FRAMES, MIDDLE, WAYS, WEIGHTS, Actor, Film, Track
from parbench.scenes.world import COLOURS, SHAPES

# Kinds of track that a thing may have if a question of a skill, or of order with this detail, asks about it.
_KINDS = {
    "direction": ("move",),
    "motion": ("still", "move"),
    "came": ("appear",),
    "vanished": ("vanish",),
    "events": ("still", "blink"),
    "colour": ("still", "change"),
    "memory": ("vanish",),
}


@lru_cache
def _tracks(kind: str) -> tuple[tuple[Track, float], ...]:
    """The tracks of a kind, with their weights; of a change each colour that it may end in."""
    frames = range(1, FRAMES)
    found = {
        "still": [(Track("still"), 1.0)],
        "move": [(Track(way), 1.0) for way in WAYS],
        "change": [(Track("change", frame, colour), 1.0) for frame in frames for colour in COLOURS],
        "blink": [(Track("blink", off=off), 1 / len(offered)) for offered in BLINKS.values() for off in offered],
        "appear": [(Track("appear", frame), 1.0) for frame in frames],
        "vanish": [(Track("vanish", frame), 1.0) for frame in frames],
    }[kind]
    total = sum(weight for _, weight in found)
    return tuple((track, WEIGHTS[kind] * weight / total) for track, weight in found)


def _seen(film: Film, frame: int) -> list[tuple[str, str, tuple[int, int, int, int]]]:
    """All that a frame shows."""
    return [(actor.shape, actor.colour_in(frame), actor.box(frame)) for actor in film.actors if actor.shown(frame)]


def _others(actor: Actor, question: Question, frame: int) -> Iterator[tuple[Actor, float]]:
    """What a thing might be instead, in the same place in a frame, with its weight."""
    shapes = SHAPES if question.skill == "memory" else (actor.shape,)
    colours = COLOURS if question.skill == "colour" else (actor.colour,)
    kinds = _KINDS[question.detail if question.skill == "order" else question.skill]
    place = actor.box(frame)
    for kind, shape, colour in product(kinds, shapes, colours):
        for track, weight in _tracks(kind):
            if track.colour != colour:
                other = replace(actor, shape=shape, colour=colour, track=track)
                x, y, _, _ = other.box(frame)
                corner = (other.corner[0] + place[0] - x, other.corner[1] + place[1] - y)
                yield replace(other, corner=corner), weight


def _asked(actor: Actor, question: Question) -> bool:
    """Whether a question names a thing: by its shape if it asks for colour, by its colour if it asks for shape."""
    if question.skill == "colour":
        return f"the {actor.shape} " in question.text
    if question.skill == "memory":
        return f"the {actor.colour} object" in question.text
    return re.search(rf"\bthe {actor.name}\b", question.text) is not None


def posterior(film: Film, question: Question, frame: int = MIDDLE) -> dict[str, float]:
    """The probability of each answer to a question, given all that one frame of its film shows.

    Args:
        film: The film.
        question: One of its questions.
        frame: The number of the frame.
    """
    skill, shown = question.skill, _seen(film, frame)
    named = [number for number, actor in enumerate(film.actors) if _asked(actor, question)]
    # Of each group of answers: its weight over all films, and over those that show the same.
    prior: dict[tuple[str, ...], float] = defaultdict(float)
    same: dict[tuple[str, ...], float] = defaultdict(float)
    answers: dict[tuple[str, ...], str] = {}
    for chosen in product(*(_others(film.actors[number], question, frame) for number in named)):
        weight, other = 1.0, film
        for number, (actor, share) in zip(named, chosen, strict=True):
            other, weight = other.with_actor(number, actor), weight * share
        if not other.possible():
            continue
        for asked in ASKERS[skill](other):
            if asked.text == question.text:
                group = FilmBalance.group(asked)
                prior[group] += weight
                answers[group] = asked.answer
                same[group] += weight if _seen(other, frame) == shown else 0.0
    found: dict[str, float] = dict.fromkeys(options(question), 0.0)
    for group, answer in answers.items():
        found[answer] += same[group] / prior[group] / GROUPS[skill][group]
    total = sum(found.values())
    return {answer: share / total for answer, share in found.items()}


def one_frame(split: str, frame: int = MIDDLE) -> dict[str, dict[str, float]]:
    """Accuracy of the best guess about each question of a split from one frame alone.

    Args:
        split: One of ``parbench.scenes.splits.SPLITS`` that has clips.
        frame: The number of the frame.

    Returns:
        By skill and for ``all``: ``expected``, the mean probability of the most likely answer, and ``right``, how often it is the
        right one. Of several most likely answers one is taken at random, which counts as its share.
    """
    films, items = load_split(split)
    likely: dict[str, list[float]] = defaultdict(list)
    right: dict[str, list[float]] = defaultdict(list)
    for item in items:
        question = item.question
        chances = posterior(films[item.image], question, frame)
        most = max(chances.values())
        best = [answer for answer, share in chances.items() if share > most - 1e-9]
        for skill in (question.skill, "all"):
            likely[skill].append(most)
            right[skill].append((question.answer in best) / len(best))
    return {skill: {"expected": fmean(likely[skill]), "right": fmean(right[skill])} for skill in (*SKILLS, "all")}
