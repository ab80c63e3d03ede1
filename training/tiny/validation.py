"""Validation accuracy by skill during training. As in training, all questions about an image are in one masked sequence.

The questions are from the val split of ``scenes``, in its own or in held-out wordings, and from held-out images of easy-VQA's train
split. Test splits are not used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np

from parbench.scenes.questions import Question
from parbench.scenes.render import render
from parbench.scenes.splits import load_split
from parbench.scenes.wordings import reword
from parbench.scenes.world import Scene
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
    """Exact match by skill and over all questions on the val split, as with greedy decoding.

    Args:
        trainer: The trainer of the model.
        images: Number of images, from the beginning of the split.
        budget: Number of visual tokens that are kept at random, the same ones in every call; None for all.
        wordings: Wordings by skill that replace those of the split.
    """
    scenes, items = load_split("val")
    asked: dict[int, list[Question]] = defaultdict(list)
    for number, item in enumerate(items):
        question = item.question
        if wordings:
            question = reword(question, np.random.default_rng([number, 6]), wordings)
        asked[item.image].append(question)

    return _judged(trainer, {number: asked[number] for number in range(images)}, lambda number: drawn(scenes[number]), budget)


def drawn(scene: Scene) -> Picture:
    """A scene with its image and the labels of its patches."""
    pixels, owner = render(scene)
    patches = patch_owner(owner)
    return Picture(scene, pixels, patches, label_patches(scene, patches))


def pictures_of_val(images: int) -> list[Picture]:
    """The first images of the val split, with labels of their patches."""
    return [drawn(scene) for scene in load_split("val")[0][:images]]


def outside_validation(trainer: LanguageTrainer, images: int = 200, budget: int | None = None) -> dict[str, float]:
    """Exact match on held-out images of easy-VQA, by kind of question.

    Args:
        trainer: The trainer of the model.
        images: Number of images.
        budget: Number of visual tokens that are kept at random; None for all.

    Raises:
        ParbenchError: easy-vqa is not installed.
    """
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
        thinning = (
            thin_at_random(np.random.default_rng([budget, first]), pictures, budget, layout=trainer.layout) if budget else None
        )
        turns = trainer.turns([asked[number] for number in taken])
        for turn, right in zip(turns, trainer.judge(pictures, turns, thinning), strict=True):
            hits[turn.question.skill].append(right)
    trainer.train(was)
    return accuracies(hits)


def accuracies(hits: Mapping[str, list[bool]]) -> dict[str, float]:
    """The share of hits by skill, and of all."""
    found = {skill: round(float(np.mean(values)), 4) for skill, values in hits.items()}
    return found | {"all": round(float(np.mean([hit for values in hits.values() for hit in values])), 4)}
