"""The questions of the splits of ``scenes-video``, balanced, and what guessing would score."""

from __future__ import annotations

from collections import defaultdict
from itertools import product

import numpy as np

from parbench.scenes.questions import Question
from parbench.scenes.splits import Balance, Item, Split, blind_majority
from parbench.scenes.video.questions import CHANGED, CHANGES_PER_SAME, SAME, SKILLS, candidates, options
from parbench.scenes.video.tracks import MAX_BLINKS, WAYS, Film, sample_film
from parbench.scenes.world import COLOURS, SHAPES


def answer_class(question: Question) -> str:
    """What stands for an answer in balancing: the answer, or which of two named things it is."""
    return str(options(question).index(question.answer)) if question.skill == "order" else question.answer


# A film has questions of so many skills at least, one of each.
AT_LEAST = 2
# By how many questions the most frequent answer of a skill is ahead of the rarest.
AHEAD = 2


class FilmBalance(Balance):
    """As for still scenes: the answer within its skill first, then the answer to the same text."""

    @staticmethod
    def group(question: Question) -> tuple[str, ...]:
        """What is balanced first: skill and answer; of order also the event, of colour whether it changes."""
        detail = (question.detail,) if question.skill in ("order", "colour") else ()
        return question.skill, answer_class(question), *detail

    @staticmethod
    def rarity(question: Question) -> int:
        """By how much rarer its group should be than the most frequent ones."""
        return CHANGES_PER_SAME if question.skill == "colour" and question.detail == SAME else 1

    def wants(self, question: Question) -> bool:
        """Whether its group is not ahead of the others of its skill."""
        level = self.rarity(question) * self.by_group[self.group(question)]
        return level <= min(weight * self.by_group[group] for group, weight in GROUPS[question.skill].items()) + AHEAD


def _groups() -> dict[str, dict[tuple[str, ...], int]]:
    """The groups of each skill with their rarity."""
    fixed = {
        "direction": tuple((way,) for way in WAYS),
        "motion": (("still",), ("moving",)),
        "order": tuple(product("01", ("came", "vanished"))),
        "events": tuple((str(count),) for count in range(MAX_BLINKS + 1)),
        "colour": tuple(product(COLOURS, (SAME, CHANGED))),
        "memory": tuple((shape,) for shape in SHAPES),
    }
    return {skill: {(skill, *group): CHANGES_PER_SAME if SAME in group else 1 for group in fixed[skill]} for skill in SKILLS}


GROUPS = _groups()


def films(split: Split) -> tuple[tuple[Film, ...], tuple[Item, ...]]:
    """Films and questions of a split. Seeds whose films offer too few questions that keep the answers balanced are passed over."""
    balance = FilmBalance()
    found: list[Film] = []
    items: list[Item] = []
    seed = split.first_seed
    while len(found) < split.images:
        film = sample_film(seed)
        rng = np.random.default_rng([seed, 9])
        seed += 1
        pool: dict[str, list[Question]] = defaultdict(list)
        for question in candidates(film):
            if balance.wants(question):
                pool[question.skill].append(question)
        if len(pool) >= AT_LEAST:
            items += [Item(len(found), balance.best(rng, pool[skill])) for skill in SKILLS if pool[skill]]
            found.append(film)
    return tuple(found), tuple(items)


def chance() -> dict[str, float]:
    """Accuracy of a random choice among the possible answers, by skill."""
    # Of order, which of the two things a question names.
    answers = {skill: {answer for _, answer, *_ in groups} for skill, groups in GROUPS.items()}
    return {skill: 1 / len(answers[skill]) for skill in SKILLS}


def blind() -> dict[str, float]:
    """Accuracy of guessing from the question alone in the test split, by skill and ``all`` (:func:`blind_majority`)."""
    return blind_majority("video-train", "video-test", answer_class)
