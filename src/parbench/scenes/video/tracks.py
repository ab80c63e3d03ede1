"""The world of ``scenes-video``: short films of two to four things, each with a track of its own.

A film has eight frames of 12 x 12 patches of 14 pixels (168 x 168). Shapes, colours and backgrounds are those of ``scenes``. Things
never touch, in no frame. Films are drawn as a whole, and a film in which things would touch or leave the frame is drawn again as a
whole. So among the films that show the same in one frame, those that differ in the direction of a thing alone are equally likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from parbench.scenes.world import COLOURS, PATCH, SHAPES, Box

FRAMES = 8
SIDE = 12 * PATCH
# Seconds between frames. Families that join two frames in a time step then have a step a second.
SECONDS = 0.5
# The one frame that a reader of one frame gets. Its content says nothing about the answers (``parbench.scenes.video.one_frame``).
MIDDLE = FRAMES // 2

DIAMETERS = (22, 32)
# Pixels by which a moving thing goes on in a frame: 28 to 42 over the film, 2 to 3 patches.
STEPS = (4, 6)
MARGIN, GAP = 2, 4
# How often a thing is placed where it could move in each way without leaving the frame, whatever its track is.
CENTRAL = 0.7

WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
# Frames between those in which something appears or vanishes, if questions ask which was first.
APART = 2
MAX_BLINKS = 3

# How often a thing has a kind of track. Things that move share a weight among the four ways.
WEIGHTS = {"still": 0.24, "move": 0.4, "blink": 0.12, "change": 0.18, "appear": 0.01, "vanish": 0.05}
# How often the first two things of a film appear, or vanish, one after the other.
PAIRS = 0.35
THINGS, THINGS_WEIGHTS = (2, 3, 4), (0.05, 0.3, 0.65)


@dataclass(frozen=True)
class Track:
    """What becomes of a thing.

    Attributes:
        kind: ``still``, a way (``left``, ``right``, ``up``, ``down``), ``appear``, ``vanish``, ``change`` (of colour) or ``blink``.
        frame: The first frame after the event, for ``appear``, ``vanish`` and ``change``.
        colour: The colour after a change.
        off: The frames in which a blinking thing is not shown. It always is in the first, the middle and the last one.
    """

    kind: str
    frame: int = 0
    colour: str = ""
    off: tuple[int, ...] = ()


@dataclass(frozen=True)
class Actor:
    """A thing with its track.

    Attributes:
        shape: Its shape.
        colour: Its colour, until it changes.
        diameter: Side of its box in pixels.
        corner: Left and top of its box in the middle frame.
        step: Pixels by which it goes on in a frame if it moves.
        track: Its track.
    """

    shape: str
    colour: str
    diameter: int
    corner: tuple[int, int]
    step: int
    track: Track

    @property
    def moves(self) -> bool:
        """Whether it changes its place."""
        return self.track.kind in WAYS

    @property
    def name(self) -> str:
        """The phrase by which questions name it, such as ``red star``; of a thing whose colour changes the first."""
        return f"{self.colour} {self.shape}"

    @property
    def colours(self) -> tuple[str, ...]:
        """Its colours, in order."""
        return (self.colour, self.track.colour) if self.track.colour else (self.colour,)

    def colour_in(self, frame: int) -> str:
        """Its colour in a frame."""
        return self.track.colour if self.track.colour and frame >= self.track.frame else self.colour

    def shown(self, frame: int) -> bool:
        """Whether a frame shows it."""
        if self.track.kind == "appear":
            return frame >= self.track.frame
        if self.track.kind == "vanish":
            return frame < self.track.frame
        return frame not in self.track.off

    def box(self, frame: int) -> Box:
        """Its place in a frame, whether it is shown or not (x0, y0, x1, y1; pixels, upper end open)."""
        across, down = WAYS.get(self.track.kind, (0, 0))
        gone = self.step * (frame - MIDDLE)
        x, y = self.corner[0] + across * gone, self.corner[1] + down * gone
        return x, y, x + self.diameter, y + self.diameter


@dataclass(frozen=True)
class Film:
    """The content of a clip. ``seed`` also determines texture, grain and colour jitter, so rendering is deterministic."""

    seed: int
    actors: tuple[Actor, ...]

    def with_actor(self, number: int, actor: Actor) -> Film:
        """The same film with another thing in the place of one."""
        return Film(self.seed, (*self.actors[:number], actor, *self.actors[number + 1 :]))

    def free(self, number: int) -> bool:
        """Whether a thing could move in each of the four ways from its place in the middle frame, the others being as they are."""
        others = [actor for place, actor in enumerate(self.actors) if place != number]
        moved = [replace(self.actors[number], track=Track(way)) for way in WAYS]
        return all(_inside(actor) and not any(_touch(actor, other) for other in others) for actor in moved)

    def possible(self) -> bool:
        """Whether no thing leaves the frame or touches another."""
        return all(map(_inside, self.actors)) and not any(_touch(one, other) for one, other in combinations(self.actors, 2))


def _inside(actor: Actor) -> bool:
    low, high = MARGIN, SIDE - MARGIN
    ends = (actor.box(0), actor.box(FRAMES - 1))
    return all(low <= x0 and low <= y0 and x1 <= high and y1 <= high for x0, y0, x1, y1 in ends)


def _touch(one: Actor, other: Actor) -> bool:
    """Whether two things come closer than the gap in any frame; those that are not shown keep their place."""
    frames = range(FRAMES) if one.moves or other.moves else (MIDDLE,)
    for frame in frames:
        a, b = one.box(frame), other.box(frame)
        if a[0] < b[2] + GAP and b[0] < a[2] + GAP and a[1] < b[3] + GAP and b[1] < a[3] + GAP:
            return True
    return False


def _blinks() -> dict[int, tuple[tuple[int, ...], ...]]:
    """By how often a thing blinks: the frames in which it may be off, one at a time."""
    offered = [frame for frame in range(1, FRAMES - 1) if frame != MIDDLE]
    return {
        count: tuple(off for off in combinations(offered, count) if all(b - a > 1 for a, b in pairwise(off)))
        for count in range(1, MAX_BLINKS + 1)
    }


BLINKS = _blinks()
# Frames of two events of one kind of which one is clearly first, and both before or both after the middle frame shows.
ORDERS = tuple(
    (first, second)
    for first, second in combinations(range(1, FRAMES), 2)
    if second - first >= APART and (first <= MIDDLE) == (second <= MIDDLE)
)
_KINDS, _BOUNDS = tuple(WEIGHTS), tuple(np.cumsum(list(WEIGHTS.values())).tolist())
_THINGS_BOUNDS = tuple(np.cumsum(THINGS_WEIGHTS).tolist())


def _pick(draw: float, count: int) -> int:
    """One of ``count`` equally likely indices by a number in [0, 1)."""
    return int(draw * count)


def _between(draw: float, bounds: Sequence[float]) -> int:
    return next((place for place, bound in enumerate(bounds) if draw < bound), len(bounds) - 1)


def _track(kind: float, detail: float, second: float, colour: str) -> Track:
    """A track by three numbers in [0, 1)."""
    name = _KINDS[_between(kind, _BOUNDS)]
    if name == "move":
        return Track(tuple(WAYS)[_pick(detail, len(WAYS))])
    if name == "blink":
        offered = BLINKS[_pick(detail, MAX_BLINKS) + 1]
        return Track(name, off=offered[_pick(second, len(offered))])
    if name == "still":
        return Track(name)
    frame = 1 + _pick(detail, FRAMES - 1)
    if name == "change":
        others = [other for other in COLOURS if other != colour]
        return Track(name, frame, others[_pick(second, len(others))])
    return Track(name, frame)


def _draw(seed: int, draws: np.ndarray) -> Film:
    """A film, possible or not, by numbers in [0, 1): one row for the film and one a thing."""
    film, *rows = draws.tolist()
    actors = []
    paired: tuple[Track, ...] = ()
    if film[1] < PAIRS:
        kind = ("appear", "vanish")[_pick(film[2], 2)]
        frames = ORDERS[_pick(film[3], len(ORDERS))]
        paired = tuple(Track(kind, frame) for frame in (frames if film[4] < 0.5 else frames[::-1]))
    for number, row in enumerate(rows[: THINGS[_between(film[0], _THINGS_BOUNDS)]]):
        shape, colour = SHAPES[_pick(row[0], len(SHAPES))], COLOURS[_pick(row[1], len(COLOURS))]
        diameter = DIAMETERS[0] + _pick(row[2], DIAMETERS[1] - DIAMETERS[0] + 1)
        step = STEPS[0] + _pick(row[5], STEPS[1] - STEPS[0] + 1)
        least = MARGIN + (step * max(MIDDLE, FRAMES - 1 - MIDDLE) if row[9] < CENTRAL else 0)
        places = SIDE - 2 * least - diameter + 1
        corner = (least + _pick(row[3], places), least + _pick(row[4], places))
        track = paired[number] if number < len(paired) else _track(row[6], row[7], row[8], colour)
        actors.append(Actor(shape, colour, diameter, corner, step, track))
    return Film(seed, tuple(actors))


def sample_film(seed: int) -> Film:
    """Draw a film at random from its seed, which determines everything about it."""
    rng = np.random.default_rng([seed, 7])
    while not (film := _draw(seed, rng.random((1 + max(THINGS), 10)))).possible():
        pass
    return film
