"""Accuracy of a model in training, by skill: all questions of a picture in one sequence, masked, as in training.

On the val split of ``scenes``, in its own wordings or in those that are held out, and on the pictures of easy-VQA's train split
that are kept from training. Nothing here looks at a test split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from parbench.scenes.questions import Question
from parbench.scenes.render import render
from parbench.scenes.splits import load_split
from parbench.scenes.wordings import reword
from tiny.language_stage import LanguageTrainer
from tiny.outside import held_out, outside_picture
from tiny.outside import questions as outside_questions
from tiny.sequences import thin_at_random
from tiny.vision_stage import Picture, label_patches, patch_owner


def validation(
    trainer: LanguageTrainer,
    images: int = 120,
    budget: int | None = None,
    wordings: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, float]:
    """Exact match by skill and over all, as greedy decoding would have it, on the val split.

    Args:
        trainer: The model.
        images: How many pictures of the split, from its beginning.
        budget: Random visual tokens that stay, the same in every call; all of them if None.
        wordings: Wordings by skill that take the place of the split's own.
    """
    scenes, items = load_split("val")
    asked: dict[int, list[Question]] = defaultdict(list)
    for number, item in enumerate(items):
        question = item.question
        if wordings:
            question = reword(question, np.random.default_rng([number, 6]), wordings)
        asked[item.image].append(question)

    def picture(number: int) -> Picture:
        pixels, owner = render(scenes[number])
        patches = patch_owner(owner)
        return Picture(scenes[number], pixels, patches, label_patches(scenes[number], patches))

    return _judged(trainer, {number: asked[number] for number in range(images)}, picture, budget)


def outside_validation(trainer: LanguageTrainer, images: int = 200, budget: int | None = None) -> dict[str, float]:
    """Exact match on easy-VQA's held-out pictures, by what is asked."""
    asked = {
        number: [Question(q.detail, q.detail, q.text, q.answer, ()) for q in outside_questions()[number]]
        for number in held_out()[:images]
    }
    return _judged(trainer, asked, outside_picture, budget)


def _judged(
    trainer: LanguageTrainer,
    asked: Mapping[int, list[Question]],
    picture: Callable[[int], Picture],
    budget: int | None,
    batch: int = 8,
) -> dict[str, float]:
    hits: dict[str, list[bool]] = defaultdict(list)
    numbers = list(asked)
    was = trainer.training
    trainer.eval()
    for first in range(0, len(numbers), batch):
        taken = numbers[first : first + batch]
        pictures = [picture(number) for number in taken]
        thinning = thin_at_random(np.random.default_rng([budget, first]), pictures, budget) if budget else None
        turns = trainer.turns([asked[number] for number in taken])
        for turn, right in zip(turns, trainer.judge(pictures, turns, thinning), strict=True):
            hits[turn.question.skill].append(right)
    trainer.train(was)
    found = {skill: round(float(np.mean(values)), 4) for skill, values in hits.items()}
    return found | {"all": round(float(np.mean([hit for values in hits.values() for hit in values])), 4)}
