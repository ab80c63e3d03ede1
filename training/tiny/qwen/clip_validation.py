"""Validation of qwen-tiny on clips of the val split of ``scenes-video``, as with greedy decoding."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

import numpy as np

from parbench.scenes.questions import Question
from parbench.scenes.splits import load_split
from tiny.qwen.clip_trainer import ClipTrainer
from tiny.qwen.clips import Reel, drawn
from tiny.sequences import Thinning, any_tokens
from tiny.validation import accuracies

_SPLIT = "video-val"
_BATCH = 8


@lru_cache(maxsize=1)
def reels_of_val(clips: int) -> list[Reel]:
    """The first clips of the val split, with labels."""
    return [drawn(film) for film in load_split(_SPLIT)[0][:clips]]


def clip_validation(trainer: ClipTrainer, clips: int, budget: int | None = None) -> dict[str, float]:
    """Exact match by skill and over all questions.

    Args:
        trainer: The trainer of the model.
        clips: Number of clips, from the beginning of the split.
        budget: Number of visual tokens of a clip that are kept at random, the same ones in every call; None for all.
    """
    asked: dict[int, list[Question]] = defaultdict(list)
    for item in load_split(_SPLIT)[1]:
        asked[item.image].append(item.question)
    reels = reels_of_val(clips)
    hits: dict[str, list[bool]] = defaultdict(list)
    was = trainer.training
    trainer.eval()
    for first in range(0, clips, _BATCH):
        shown = reels[first : first + _BATCH]
        turns = trainer.turns([asked[number] for number in range(first, first + len(shown))])
        for turn, right in zip(turns, trainer.answer(shown, turns, _at_random(first, shown, budget)), strict=True):
            hits[turn.question.skill].append(right)
    trainer.train(was)
    return accuracies(hits)


def _at_random(first: int, reels: list[Reel], budget: int | None) -> Thinning | None:
    if not budget:
        return None
    return any_tokens(np.random.default_rng([budget, first]), len(reels), reels[0].tokens, budget, compact=False)
