"""Conversations about scenes: several questions about one image, one after the other.

In each block of seven conversations every turn asks for each of the seven skills once, so that accuracy by turn compares like with
like. A conversation has no skill twice. What skill follows what is drawn anew for each block. Answers are balanced turn by turn.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from parbench.scenes.questions import SKILLS, Question, candidates
from parbench.scenes.splits import Balance, Item, Split
from parbench.scenes.world import Scene, sample_scene


def conversations(split: Split) -> tuple[tuple[Scene, ...], tuple[Item, ...]]:
    """Scenes and questions of a split, conversation by conversation, each in the order of its turns.

    Args:
        split: Its images are a multiple of the number of skills.
    """
    balances = [Balance() for _ in range(split.turns)]
    scenes: list[Scene] = []
    items: list[Item] = []
    seed = split.first_seed
    for number, skills in enumerate(_plan(split)):
        offered = None
        while offered is None:
            scene = sample_scene(seed)
            offered = _offered(scene, skills)
            seed += 1
        scenes.append(scene)
        rng = np.random.default_rng([scene.seed, 5])
        for turn, (skill, balance) in enumerate(zip(skills, balances, strict=True), 1):
            items.append(Item(number, balance.best(rng, offered[skill]), turn))
    return tuple(scenes), tuple(items)


def _plan(split: Split) -> list[tuple[str, ...]]:
    """The skills of each conversation, in the order of its turns."""
    rng = np.random.default_rng([split.first_seed, 6])
    plan = []
    for _ in range(split.images // len(SKILLS)):
        order = [SKILLS[place] for place in rng.permutation(len(SKILLS))]
        plan += [tuple(order[(first + turn) % len(SKILLS)] for turn in range(split.turns)) for first in range(len(SKILLS))]
    return plan


def _offered(scene: Scene, skills: tuple[str, ...]) -> dict[str, list[Question]] | None:
    """The questions about a scene by skill; None if it has none of one of the skills."""
    found: dict[str, list[Question]] = defaultdict(list)
    for question in candidates(scene):
        found[question.skill].append(question)
    return found if all(found[skill] for skill in skills) else None
