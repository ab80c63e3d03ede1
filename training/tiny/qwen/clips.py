"""Clips of qwen-tiny's training: films with labels of what each pair of frames shows, and what questions about them refer to.

Qwen2.5-VL joins two frames in a time step, so a label is of a patch in a pair of frames.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from parbench.scenes.questions import Question
from parbench.scenes.video.questions import draw_questions, moves, named
from parbench.scenes.video.render import render
from parbench.scenes.video.tracks import FRAMES, SIDE, WAYS, Actor, Film, sample_film
from parbench.scenes.world import COLOURS, PATCH, SHAPES, Window
from tiny.layout import Layout
from tiny.loop import Stage
from tiny.qwen.architecture import FRAMES as JOINED
from tiny.qwen.architecture import MERGE
from tiny.referents import Centre, Referent
from tiny.vision_stage import HEADS, IGNORE, patch_owner

# Seeds of films for training; those of the splits are outside it (docs/scenes_video.md).
SEEDS = (1_000_000_000, 2_000_000_000)
STEPS = FRAMES // JOINED
PATCHES = SIDE // PATCH
WINDOW = Window(0, 0, PATCHES, PATCHES)
# What becomes of a thing within a pair of frames.
CHANGES = ("stays", *WAYS, "comes", "goes", "turns")

_LAYOUT = Layout(MERGE)
# Words for tracks in which something comes or goes.
_EVENTS = {"blink": "blink", "appear": "came", "vanish": "vanished"}
_NUMBERS = ("one", "two", "three", "four")


@dataclass(frozen=True)
class Reel:
    """A rendered film of training, with labels of its patches, time step by time step.

    Attributes:
        film: The film.
        frames: [frames, height, width, 3] uint8.
        owner: [steps, rows * columns] number of the thing that each patch shows in a pair of frames; 0 for none.
        labels: Dense labels by the names in ``HEADS``, each [steps * rows * columns], ``centre`` [steps * rows * columns, 2], and
            ``change``, an index in ``CHANGES``.
    """

    film: Film
    frames: np.ndarray
    owner: np.ndarray
    labels: dict[str, np.ndarray]

    @property
    def tokens(self) -> int:
        """Number of its visual tokens."""
        return len(self.owner) * _LAYOUT.count(WINDOW)

    def ends(self, question: Question) -> list[float]:
        """Centre of the thing that a question is about in the first time step and in the last one (x, y, x, y; pixels)."""
        [actor] = [actor for actor in self.film.actors if actor.box(0) == question.boxes[0]]
        return [value for step in (0, STEPS - 1) for value in _centre(actor, step)]

    def words(self) -> list[tuple[int, tuple[str, ...]]]:
        """Visual tokens, each with words for what it shows: colour, shape, and what becomes of it in the time step."""
        found: dict[tuple[int, tuple[str, ...]], None] = {}
        for step, owner in enumerate(self.owner):
            for token, things in enumerate(_LAYOUT.grouped(owner, WINDOW)):
                for number in set(things[things > 0].tolist()):
                    actor = self.film.actors[number - 1]
                    # Of a colour that changes within the pair, the later one.
                    colour = actor.colour_in(step * JOINED + JOINED - 1)
                    found[step * _LAYOUT.count(WINDOW) + token, (colour, actor.shape, _becomes(actor, step))] = None
        return list(found)


def drawn(film: Film) -> Reel:
    """A film with its frames and the labels of its patches."""
    frames, pixels = render(film)
    patches = np.stack([patch_owner(one) for one in pixels]).reshape(STEPS, JOINED, -1)
    owner = patches[:, 0]
    for later in range(1, JOINED):
        owner = np.where(patches[:, later] != 0, patches[:, later], owner)
    return Reel(film, frames, owner, _labels(film, owner))


def draw_reels(rng: np.random.Generator, stage: Stage) -> tuple[list[Reel], list[list[Question]]]:
    """Films and questions of a step. A film that offers no question, in a stage without questions one in which nothing moves, is
    drawn again. With questions there are twice as many films as images, since a film offers few.

    In training, things are also asked about that could not move in each of the four ways, so one frame says something about the
    answer. There are more than twice as many of them.
    """
    reels: list[Reel] = []
    asked: list[list[Question]] = []
    while len(reels) < stage.batch * (2 if stage.questions else 1):
        film = sample_film(int(rng.integers(*SEEDS)))
        questions = draw_questions(rng, film, stage.questions)
        if stage.questions:
            questions += [question for _, actor in named(film) for question in moves(actor)]
        if questions if stage.questions else any(actor.moves for actor in film.actors):
            reels.append(drawn(film))
            asked.append(list({question.text: question for question in questions}.values()))
    return reels, asked


def _change(actor: Actor, step: int) -> str:
    """What becomes of a thing within a time step."""
    first, last = step * JOINED, step * JOINED + JOINED - 1
    if actor.shown(first) != actor.shown(last):
        return "comes" if actor.shown(last) else "goes"
    if actor.moves:
        return actor.track.kind
    return "turns" if actor.colour_in(first) != actor.colour_in(last) else "stays"


def _centre(actor: Actor, step: int) -> Centre:
    """The centre of a thing in a time step: the mean over its frames."""
    x0, y0, x1, y1 = np.mean([actor.box(step * JOINED + frame) for frame in range(JOINED)], axis=0)
    return float(x0 + x1) / 2, float(y0 + y1) / 2


def _labels(film: Film, owner: np.ndarray) -> dict[str, np.ndarray]:
    labels = {name: np.full(owner.shape, IGNORE) for name in (*HEADS, "change") if name != "centre"}
    labels["kind"][:] = 0
    centre = np.full((*owner.shape, 2), np.nan, dtype=np.float32)
    row, column = np.divmod(np.arange(PATCHES * PATCHES), PATCHES)
    for number, actor in enumerate(film.actors, 1):
        for step in range(STEPS):
            mine, change = owner[step] == number, _change(actor, step)
            labels["kind"][step, mine] = 2 + SHAPES.index(actor.shape)
            labels["change"][step, mine] = CHANGES.index(change)
            if change != "turns":
                labels["colour"][step, mine] = COLOURS.index(actor.colour_in(step * JOINED))
            x, y = _centre(actor, step)
            offsets = [x / PATCH - column - 0.5, y / PATCH - row - 0.5]
            centre[step, mine] = np.stack(offsets, axis=1)[mine]
    return {name: value.reshape(-1) for name, value in labels.items()} | {"centre": centre.reshape(-1, 2)}


def referents(question: Question, film: Film) -> list[Referent]:
    """The things that a question about a film refers to, with words for what it is asked about."""
    said = re.findall(r"\w+", question.text)
    found = []
    for actor in film.actors:
        thing = (actor.colour, actor.shape)
        words: tuple[str, ...]
        if question.skill == "colour":
            # "the star": the colours in the beginning and at the end.
            phrase: tuple[str, ...] = (actor.shape,)
            words = (*actor.colours[:1], *actor.colours[-1:])
        elif question.skill == "memory":
            phrase, words = (actor.colour, "object"), (actor.shape, "nothing")
        else:
            phrase, words = thing, (*_told(question, actor), _way(actor))
        if any(tuple(said[at : at + len(phrase)]) == phrase for at in range(len(said))):
            found.append(Referent(phrase, (*thing, *words)))
    return found


def _becomes(actor: Actor, step: int) -> str:
    """The word for what becomes of a thing within a time step."""
    return _EVENTS[actor.track.kind] if _change(actor, step) in ("comes", "goes") else _way(actor)


def _way(actor: Actor) -> str:
    return actor.track.kind if actor.moves else "still"


def _told(question: Question, actor: Actor) -> tuple[str, ...]:
    """The words for what becomes of a thing; of the order of things, the time step of the event."""
    if question.skill == "order":
        return (_NUMBERS[actor.track.frame // JOINED],)
    return (question.answer,)
